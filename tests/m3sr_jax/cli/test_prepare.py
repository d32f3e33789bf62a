"""`m3sr check` and `m3sr prepare` as a user types them, and what a store is for: training and evaluation."""

import numpy as np
import pytest

from m3sr_jax.cli import main
from m3sr_jax.config import DataConfig
from m3sr_jax.data.open import open_dataset
from tests.m3sr_jax.data import arad_folder as arad


@pytest.fixture
def download(tmp_path):
    """A whole data set by its split file: two training scenes and one held out, 144 × 150 pixels."""
    root = tmp_path / "download"
    for number in (1, 2, 901):
        name, cube = f"ARAD_1K_{number:04d}", arad.random_cube(number, size=(40, 44))
        arad.write_v73(root / "Train_Spec" / f"{name}.mat", cube)
        arad.write_photo(root / "Train_RGB" / f"{name}.jpg", arad.photo_of(cube))
    split = tmp_path / "split.txt"
    split.write_text("[train]\nARAD_1K_0001\nARAD_1K_0002\n[valid]\nARAD_1K_0901\n")
    return root, split


def run(command, root, *arguments):
    return main([command, "--dataset", "ntire2022", "--data-root", str(root), *map(str, arguments)])


def test_a_whole_data_set_passes_the_check_and_is_prepared(download, tmp_path, capsys):
    root, split = download
    assert run("check", root, "--split-file", split) == 0
    assert "2 training and 1 validation scenes, 40×44, 31 bands; 0 missing, 0 faulty" in capsys.readouterr().out
    store = tmp_path / "store"
    assert run("prepare", root, "--output", store, "--split-file", split) == 0
    assert "3 of them now" in capsys.readouterr().out
    assert run("check", store) == 0
    files, prepared = (
        open_dataset(DataConfig(name="ntire2022", root=str(place), split_file=str(split))) for place in (root, store)
    )
    np.testing.assert_array_equal(files.valid[0].cube, prepared.valid[0].cube)
    assert run("prepare", store, "--output", tmp_path / "again") == 2
    assert "is a store already" in capsys.readouterr().err


def test_the_check_names_every_file_that_is_missing_or_damaged(download, capsys):
    root, _ = download
    cube = root / "Train_Spec" / "ARAD_1K_0002.mat"
    with cube.open("r+b") as file:
        file.truncate(cube.stat().st_size // 2)
    dark = arad.random_cube(3, size=(40, 44))
    dark[3, 4, 5] = 0
    arad.write_v73(root / "Train_Spec" / "ARAD_1K_0003.mat", dark)
    arad.write_photo(root / "Train_RGB" / "ARAD_1K_0003.jpg", arad.photo_of(dark))
    assert run("check", root) == 2
    streams = capsys.readouterr()
    assert "missing: scene ARAD_1K_0950" in streams.out
    assert f"fault: {cube}: cannot be read as an HDF5 file" in streams.out
    assert "note: zeros in the cube" in streams.out
    assert "1 scenes, ARAD_1K_0003" in streams.out
    assert "943 missing, 1 faulty" in streams.out or "944 missing, 1 faulty" in streams.out
    assert len(streams.err.splitlines()) == 1


def test_damage_among_the_pixels_is_found_by_the_full_check_alone(download, capsys):
    root, split = download
    photo = root / "Train_RGB" / "ARAD_1K_0001.jpg"
    photo.write_bytes(photo.read_bytes()[:-600])
    assert run("check", root, "--split-file", split, "--quick") == 0
    assert run("check", root, "--split-file", split) == 2
    assert "ARAD_1K_0001.jpg: cannot be read as an image" in capsys.readouterr().out
