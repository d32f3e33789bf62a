"""A small data set for `m3sr check` and `m3sr prepare`."""

import pytest

from tests.m3sr_jax.data import arad_folder as arad


@pytest.fixture
def download(tmp_path):
    """A whole data set by its split file: two training scenes and one held out, 40 × 44 pixels."""
    root = tmp_path / "download"
    for number in (1, 2, 901):
        name, cube = f"ARAD_1K_{number:04d}", arad.random_cube(number, size=(40, 44))
        arad.write_v73(root / "Train_Spec" / f"{name}.mat", cube)
        arad.write_photo(root / "Train_RGB" / f"{name}.jpg", arad.photo_of(cube))
    split = tmp_path / "split.txt"
    split.write_text("[train]\nARAD_1K_0001\nARAD_1K_0002\n[valid]\nARAD_1K_0901\n")
    return root, split
