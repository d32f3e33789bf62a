"""Tests for the parts of the HDF5 reader that keep its memory small."""

import h5py
import numpy as np
import pytest

from m3sr_jax.io import hdf5
from m3sr_jax.io.cubes import read_cube_header
from m3sr_jax.io.hdf5 import _places, _reversed


@pytest.mark.parametrize("chunks", [None, (2, 3, 4), (5, 7, 1)])
@pytest.mark.parametrize("shape", [(5, 7, 6), (5, 1, 6), (1, 9), (4,), ()])
def test_axes_are_reversed_a_few_chunks_at_a_time(tmp_path, monkeypatch, shape, chunks):
    monkeypatch.setattr(hdf5, "STRIP_VALUES", 30)  # less than one step of any of these
    values = np.arange(np.prod(shape, dtype=int), dtype=np.int16).reshape(shape)
    fitting = None if chunks is None or len(shape) < 3 else tuple(map(min, chunks, shape))
    with h5py.File(tmp_path / "cube.mat", "w") as file:
        dataset = file.create_dataset("cube", data=values, chunks=fitting)
        found = _reversed(dataset)
    np.testing.assert_array_equal(found, values.T)
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("attribute", "searched"), [("source", False), ("units", True)])
def test_a_file_is_searched_for_damage_only_if_its_text_is_needed(tmp_path, monkeypatch, attribute, searched):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"] = np.ones((4, 5, 31))
        file["cube"].attrs[attribute] = "text of variable length"
    paths = []
    monkeypatch.setattr(hdf5, "check_heaps", paths.append)
    read_cube_header(tmp_path / "cube.h5")
    assert paths == [tmp_path / "cube.h5"] * searched


def test_bytes_are_found_across_the_ends_of_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "BLOCK_BYTES", 5)
    for content, places in ((b"GCOLxxGCOL" + b"y" * 4 + b"GCOLGCOL", [0, 6, 14, 18]), (b"GCO", []), (b"", [])):
        (tmp_path / "file").write_bytes(content)
        with (tmp_path / "file").open("rb") as file:
            assert list(_places(file, b"GCOL")) == places
