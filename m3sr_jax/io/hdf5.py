"""HDF5 files, NetCDF-4 and MATLAB v7.3 among them: their arrays by path, with attributes and named axes."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.entries import NUMBER_KINDS, Entry
from m3sr_jax.io.files import check_claim
from m3sr_jax.io.wavelengths import BANDS, MAX_BANDS

if TYPE_CHECKING:
    import h5py

HEAP = b"GCOL\1\0\0\0"
MAX_OBJECTS, MAX_DEPTH = 5000, 8
NOT_NUMBERS = ("char", "logical", "cell", "function_handle")  # MATLAB classes


def is_hdf5(path: Path) -> bool:
    """Tells whether the bytes are those of an HDF5 file, with a user block (MATLAB v7.3) or without."""
    import h5py

    return bool(h5py.is_hdf5(path))


@contextmanager
def hdf5_entries(path: Path) -> Iterator[dict[str, Entry]]:
    """Lists the arrays of an HDF5 file, in groups too; call it inside `m3sr_jax.io.files.reading`.

    Only what lies in this file is listed: other kinds of links may lead to other files.
    """
    import h5py

    with h5py.File(path, "r") as file:
        datasets: dict[str, h5py.Dataset] = {}
        _collect(file, "", datasets, set())
        matlab = path.suffix.lower() == ".mat"
        listed = [datasets[name].size or 0 for name in ("bands", "wavelengths") if name in datasets]
        bands = listed[0] if listed else len(BANDS)
        if any(dataset.attrs.get_id(name).dtype.kind == "O" for dataset in datasets.values() for name in dataset.attrs):
            check_heaps(path)  # text of variable length
        entries = [_entry(path, name, dataset, matlab, bands) for name, dataset in datasets.items()]
        yield {entry.name: entry for entry in entries if entry is not None}


def _collect(group: h5py.Group, prefix: str, datasets: dict[str, h5py.Dataset], seen: set[int]) -> None:
    import h5py

    # A group can be its own member.
    address = h5py.h5o.get_info(group.id).addr  # type: ignore[attr-defined]
    if address in seen or prefix.count("/") > MAX_DEPTH:
        return
    seen.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or str(name).startswith("#"):
            continue
        if len(datasets) + len(seen) > MAX_OBJECTS:
            raise ValueError(f"found more than {MAX_OBJECTS} arrays and groups; expected a file of cubes")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            datasets[f"{prefix}{name}"] = item
        elif isinstance(item, h5py.Group):
            _collect(item, f"{prefix}{name}/", datasets, seen)


def _entry(path: Path, name: str, dataset: h5py.Dataset, matlab: bool, bands: int) -> Entry | None:
    if dataset.shape is None or dataset.dtype.kind not in NUMBER_KINDS + "cV":
        return None
    attributes = _attributes(dataset)
    if attributes.get("MATLAB_class") in NOT_NUMBERS or "MATLAB_empty" in attributes:
        return None
    # MATLAB shows the axes in reverse. Tools that omit its attribute reverse them too, unless the bands come last.
    turned = "MATLAB_class" in attributes or (matlab and len(dataset.shape) == 3 and dataset.shape[2] != bands)

    check = partial(_check_own_data, path, name, dataset)

    def read() -> np.ndarray:
        check()
        values = np.asarray(dataset[()])
        return values.T if turned else values

    if (fill := _user_fill(dataset)) is not None:
        attributes.setdefault("_FillValue", fill)
    name, step = name.replace("/", ".") if matlab else name, -1 if turned else 1
    return Entry(name, dataset.shape[::step], dataset.dtype, read, check, attributes)


def _attributes(dataset: h5py.Dataset) -> dict[str, Any]:
    """Returns the attributes that are short: numbers as arrays, text as `str`."""
    import h5py

    found: dict[str, Any] = {}
    for name in dataset.attrs:
        kind = dataset.attrs.get_id(name)
        text = h5py.check_string_dtype(kind.dtype) is not None
        # References to other arrays are never followed: libhdf5 can crash on damaged ones.
        if math.prod(kind.shape or ()) > MAX_BANDS or not (text or kind.dtype.kind in NUMBER_KINDS + "b"):
            continue
        value = dataset.attrs[name]
        if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
            value = value.ravel()[0] if value.size == 1 else ""
        found[str(name)] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def check_heaps(path: Path) -> None:
    """Refuses a file with a damaged heap, where text of variable length lies: libhdf5 crashes on some, or hangs.

    Source: The HDF Group, "HDF5 File Format Specification", section III.E (Global Heap).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            if start + 16 <= len(content):
                _check_heap(content, start)
            start = content.find(HEAP, start + 1)


def _check_heap(content: mmap.mmap, start: int) -> None:
    end = start + struct.unpack_from("<Q", content, start + 8)[0]
    place = start + 16
    while place + 16 <= end <= len(content):
        index, _, _, size = struct.unpack_from("<HHIQ", content, place)
        # What is free is one object with the number 0, whose size includes its header.
        place += size if index == 0 else 16 + -(-size // 8) * 8
        if index == 0:
            break
    if end > len(content) or place > end or (place + 16 <= end):
        raise ValueError("its heap is damaged; copy it again")


def _user_fill(dataset: h5py.Dataset) -> Any:
    """Returns the fill value that the file's maker set, unless it is zero or a byte; NetCDF's defaults are such."""
    import h5py

    properties = dataset.id.get_create_plist()
    if properties.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED or dataset.dtype.itemsize == 1:
        return None
    fill = dataset.fillvalue
    return fill if dataset.dtype.kind in NUMBER_KINDS and fill != 0 else None


def _check_own_data(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Refuses an HDF5 data set with values in other files, or with more values or larger chunks than fit this file."""
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{path}: the values of {name} are in other files; expected them in this file")
    for extents in (dataset.shape, dataset.chunks or ()):
        check_claim(path, extents, dataset.dtype.itemsize)
