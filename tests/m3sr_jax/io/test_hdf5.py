"""Tests for the parts of the HDF5 reader that keep its memory small."""

import h5py
import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import hdf5
from m3sr_jax.io.cubes import read_cube_header
from m3sr_jax.io.hdf5 import _places, _reversed, check_heaps


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


def test_a_damaged_heap_is_refused_whatever_its_reserved_bytes_are(tmp_path):
    """libhdf5 would loop forever over the free object of 0 bytes behind the first one."""
    path = tmp_path / "cube.h5"
    with h5py.File(path, "w") as file:
        file["cube"] = np.ones((4, 5, 31))
        file["cube"].attrs["units"] = "a text of 20 letters"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    assert content[heap + 24] == 20
    content[heap + 6], content[heap + 24] = 255, 130
    path.write_bytes(content)
    with pytest.raises(InputError, match="its heap is damaged"):
        read_cube_header(path)


@pytest.mark.parametrize("reserved", [0, 1])
def test_numbers_that_look_like_a_heap(tmp_path, reserved):
    numbers = b"GCOL\1" + bytes([0, 0, reserved]) + b"\xff" * 8
    (tmp_path / "file").write_bytes(numbers)
    if reserved:
        check_heaps(tmp_path / "file")
    else:
        with pytest.raises(ValueError, match="heap is damaged"):
            check_heaps(tmp_path / "file")


def test_bytes_are_found_across_the_ends_of_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "BLOCK_BYTES", 5)
    for content, places in ((b"GCOLxxGCOL" + b"y" * 4 + b"GCOLGCOL", [0, 6, 14, 18]), (b"GCO", []), (b"", [])):
        (tmp_path / "file").write_bytes(content)
        with (tmp_path / "file").open("rb") as file:
            assert list(_places(file, b"GCOL")) == places
