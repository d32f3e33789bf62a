"""The data sets that docs/data.md shows, on small files laid out as it says, by the very commands it shows."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from m3sr_jax.cli import main
from m3sr_jax.config import DataConfig, check_field_name
from m3sr_jax.data.open import open_dataset

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
SIZE = (16, 22)
SHIFTED = np.arange(420.0, 721.0, 10)


def commands(title):
    """The commands of a section, without those that need a trained model."""
    section = PAGE.partition(f"\n### {title}\n")[2].partition("\n##")[0]
    lines = [line for line in section.splitlines() if re.match(r"(m3sr|python) ", line)]
    assert len(lines) == 5
    return [shlex.split(line) for line in lines]


def codes(seed):
    return np.random.default_rng(seed).integers(1, 4096, (*SIZE, 31))


def write_v73(path, arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def icvl(root):
    """Returns scene → cube in [0, 1]."""
    nm = np.arange(400.0, 701.0, 10)
    cubes = {name: codes(seed) for seed, name in enumerate(("4cam_0411-1640-1", "BGU_0403-1419-1", "eve_0331-1549"))}
    for name, cube in cubes.items():
        write_v73(root / f"{name}.mat", {"rad": cube.astype(float), "bands": nm[None], "rgb": np.zeros((*SIZE, 3))})
    return {name: cube / 4095 for name, cube in cubes.items()}


def harvard(root):
    cubes = {}
    for folder, name in (("CZ_hsdb", "img1"), ("CZ_hsdb", "imga1"), ("CZ_hsdbi", "img3")):
        (root / folder).mkdir(exist_ok=True)
        cubes[name] = codes(len(cubes)) / 5000
        scipy.io.savemat(root / folder / f"{name}.mat", {"ref": cubes[name], "lbl": np.ones(SIZE, np.uint8)})
        (root / folder / "calib.txt").write_text("1.0\n" * 31)
    return cubes


def kaist(root):
    """As the conversion writes them; see the test of the conversion itself."""
    cubes = {f"scene0{number}_reflectance": codes(number) / 5000 for number in (1, 2, 3)}
    for name, cube in cubes.items():
        np.savez(root / f"{name}.npz", cube=cube.astype(np.float32), wavelengths=SHIFTED)
        (root / f"{name}.exr").write_bytes(b"\x76\x2f\x31\x01")
    return cubes


def ntire2018(root):
    cubes = {}
    for number in (1, 2, 259):
        name = f"BGU_HS_{number:05d}"
        part = "Validate" if number > 256 else "Train"
        for folder in ("Spectral", "Clean", "RealWorld"):
            (root / f"NTIRE2018_{part}_{folder}").mkdir(exist_ok=True)
        cube = codes(number)
        arrays = {"rad": cube.astype(float), "bands": np.arange(400.0, 701.0, 10)[None], "rgb": np.zeros((*SIZE, 3))}
        write_v73(root / f"NTIRE2018_{part}_Spectral" / f"{name}.mat", arrays)
        photo = Image.fromarray(np.full((*SIZE, 3), 10, np.uint8))
        photo.save(root / f"NTIRE2018_{part}_Clean" / f"{name}_clean.png")
        photo.save(root / f"NTIRE2018_{part}_RealWorld" / f"{name}_camera.jpg")
        cubes[name] = cube / 4095
    return cubes


@pytest.mark.parametrize(
    ("title", "folder", "write", "nm", "camera"),
    [
        ("ICVL", "ICVL", icvl, 400, "cie1964"),
        ("Harvard", "Harvard", harvard, 420, "cie1964"),
        ("KAIST", "KAIST", kaist, 420, "cie1964"),
        ("NTIRE 2018", "NTIRE2018", ntire2018, 400, "photos of the folder"),
    ],
)
def test_the_commands_of_the_page_read_the_layout(tmp_path, title, folder, write, nm, camera):
    (tmp_path / folder).mkdir()
    cubes = write(tmp_path / folder)
    check, prepare, train, evaluate, predict = commands(title)
    for command in (check, prepare):
        assert main([word.replace("/data", str(tmp_path)) for word in command[1:]]) == 0
    store = train[-1].partition("=")[2].replace("/data", str(tmp_path))
    dataset = open_dataset(DataConfig(name="folder", root=store))
    assert sorted(dataset.train.names + dataset.valid.names) == sorted(cubes)
    assert (dataset.train.camera_name, dataset.train.wavelengths[0]) == (camera, nm)
    held_out = dataset.valid[0]
    np.testing.assert_allclose(held_out.cube, cubes[held_out.name], rtol=1e-6)
    check_field_name(train[-1].partition("=")[0].removeprefix("--config."))
    assert train[train.index("--workdir") + 1] == evaluate[3] == predict[4]


def test_the_conversion_of_the_page_reads_openexr(tmp_path):
    exr = pytest.importorskip("OpenEXR", reason="the conversion in docs/data.md needs pip install OpenEXR")
    cube = codes(0).astype(np.float32) / 5000
    channels = {f"w{nm:.0f}nm": np.ascontiguousarray(cube[..., band]) for band, nm in enumerate(SHIFTED)}
    exr.File({"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}, channels).write(str(tmp_path / "a.exr"))
    program = PAGE.partition("\n### KAIST\n")[2].partition("```python\n")[2].partition("```")[0]
    exec(program.replace("/data/KAIST", str(tmp_path)), {})
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found["cube"], cube)
        np.testing.assert_array_equal(found["wavelengths"], SHIFTED)
