import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m3sr_jax.io.hdf5_writer import _write_pieces

# Sizes beyond which a file cannot grow, from its header to the end of its interval.
FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from m3sr_jax.errors import InputError
from m3sr_jax.io.cube_writer import cube_writer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, cube = Path(sys.argv[1]), np.ones((40, 50, 31), np.float32)
for limit in (0, 1000, 3000, 100_000, 247_000, 300_000, 496_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with cube_writer(path, cube.shape, np.arange(400, 701, 10.0), np.float32, "a photo", interval=True) as append:
            for row in range(0, 40, 8):
                append(cube[row : row + 8], cube[row : row + 8])
    except InputError as error:
        print(error)
    assert not list(path.parent.iterdir()), limit
"""


@pytest.mark.parametrize("suffix", [".mat", ".h5", ".npz"])
def test_a_full_disk_is_told_in_one_line(tmp_path, suffix):
    """libhdf5 crashes if it cannot close a file."""
    pytest.importorskip("resource", reason="limits the size of files, on Unix")
    path = tmp_path / f"cube{suffix}"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL, path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{path}: cannot be written (File too large)"] * 7


def test_what_a_single_write_leaves_is_written_by_the_next(tmp_path):
    class Slow(io.FileIO):
        def write(self, content, /):
            return super().write(content[:5])

    values = np.arange(12, dtype=np.uint16).reshape(4, 3)
    with Slow(tmp_path / "file", "wb") as file:
        _write_pieces(file, values, 8, 6, 10)
    expected = np.zeros((4, 5), np.uint16)
    expected[:, :3] = values
    content = (tmp_path / "file").read_bytes()
    assert content == bytes(8) + expected.tobytes()[:-4]
