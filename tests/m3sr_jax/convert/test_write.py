"""Release checkpoints on disk: both formats, readable by others, whole or absent."""

import sys

import numpy as np
import pytest

from m3sr_jax.convert.read import read_release
from m3sr_jax.convert.write import write_release
from m3sr_jax.errors import InputError

STATE = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "conv.bias": np.ones(2, np.float32)}


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_what_is_written_is_read_back(tmp_path, name):
    if name.endswith(".pth"):
        pytest.importorskip("torch", reason="pip install torch, for .pth files")
    write_release(tmp_path / name, STATE)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = read_release(tmp_path / name)
    assert found.keys() == STATE.keys()
    for key, value in STATE.items():
        np.testing.assert_array_equal(found[key], value)


def test_what_cannot_be_written_costs_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"a\.safetensors: cannot be written"):
        write_release(tmp_path / "no" / "a.safetensors", STATE)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"a\.pth: .*pip install torch"):
        write_release(tmp_path / "a.pth", STATE)
    assert not list(tmp_path.iterdir())
