"""HDF5 files, NetCDF-4 and MATLAB v7.3 among them: their arrays by path, with attributes and named axes."""

from __future__ import annotations

import math
import mmap
import posixpath
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.entries import NUMBER_KINDS, Entry, unreadable
from m3sr_jax.io.files import check_claim
from m3sr_jax.io.strips import STRIP_VALUES
from m3sr_jax.io.wavelengths import BANDS, MAX_BANDS

if TYPE_CHECKING:
    import h5py

HEAP = b"GCOL\1"  # and three reserved bytes, which libhdf5 does not look at
MAX_OBJECTS, MAX_DEPTH, MAX_TEXT = 5000, 8, 4096
BLOCK_BYTES = 2**24
NOT_NUMBERS = {"cell": "a cell array", "function_handle": "a function"}  # MATLAB classes
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
# Text of our own cubes that nothing needs: before it could be read, the whole file would be searched for damaged heaps.
UNREAD = "source"


def is_hdf5(path: Path) -> bool:
    """Tells whether the bytes are those of an HDF5 file, with a user block (MATLAB v7.3) or without."""
    import h5py

    return bool(h5py.is_hdf5(path))


@contextmanager
def hdf5_entries(path: Path) -> Iterator[dict[str, Entry]]:
    """Lists the arrays of an HDF5 file, in groups too; call it inside `m3sr_jax.io.files.reading`.

    Only what lies in this file is read: HDF5 itself is never asked to follow a link, which may lead to another one.
    """
    import h5py

    with h5py.File(path, "r") as file:
        datasets: dict[str, h5py.Dataset] = {}
        links: dict[str, Any] = {}
        scales: dict[str, dict[str, Any]] = {}
        _collect(file, "", datasets, links, scales, set())
        matlab = path.suffix.lower() == ".mat"
        listed = [datasets[name].size or 0 for name in ("bands", "wavelengths") if name in datasets]
        bands = listed[0] if listed else len(BANDS)
        if any(_has_variable_text(dataset) for dataset in datasets.values()):
            check_heaps(path)
        entries = [_entry(path, name, dataset, matlab, bands, scales) for name, dataset in datasets.items()]
        found = {entry.name: entry for entry in entries if entry is not None}
        yield found | {name: _link(name, link, found) for name, link in links.items()}


def _link(name: str, link: Any, found: dict[str, Entry]) -> Entry:
    """Returns the array that a soft link names, if this file has it; others are listed, but not followed."""
    import h5py

    target = posixpath.normpath(posixpath.join("/", posixpath.dirname(name), link.path))[1:]
    for spelled in (target, target.replace("/", ".")):  # MATLAB's structs are groups
        if isinstance(link, h5py.SoftLink) and spelled in found:
            return replace(found[spelled], name=name, alias=True)
    return unreadable(name, f"a link to {link.path}, which is not in this file")


def _collect(
    group: h5py.Group,
    prefix: str,
    datasets: dict[str, h5py.Dataset],
    links: dict[str, Any],
    scales: dict[str, dict[str, Any]],
    seen: set[int],
) -> None:
    """Adds the data sets and links below a group by path, and the numbers of each group that are called a scale."""
    import h5py

    # A group can be its own member.
    address = h5py.h5o.get_info(group.id).addr  # type: ignore[attr-defined]
    if address in seen or prefix.count("/") > MAX_DEPTH:
        return
    seen.add(address)
    names = [name for name in group.attrs if "scale" in str(name).lower()]
    kinds = {name: group.attrs.get_id(name) for name in names}
    scales[prefix] = {
        name: group.attrs[name]
        for name, kind in kinds.items()
        if kind.dtype.kind in NUMBER_KINDS and math.prod(kind.shape or ()) <= MAX_BANDS
    }
    for name in group:
        if str(name).startswith("#"):
            continue
        if len(datasets) + len(links) + len(seen) > MAX_OBJECTS:
            raise ValueError(f"found more than {MAX_OBJECTS} arrays and groups; expected a file of cubes")
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            links[f"{prefix}{name}"] = link
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            datasets[f"{prefix}{name}"] = item
        elif isinstance(item, h5py.Group):
            _collect(item, f"{prefix}{name}/", datasets, links, scales, seen)


def _entry(
    path: Path, name: str, dataset: h5py.Dataset, matlab: bool, bands: int, scales: dict[str, dict[str, Any]]
) -> Entry | None:
    import h5py

    if dataset.shape is None:
        return None
    if h5py.check_ref_dtype(dataset.dtype) is not None:
        return unreadable(name, "references to other arrays", dataset.shape)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return _text_entry(name, dataset)
    attributes = _attributes(dataset)
    matlab_class = attributes.get("MATLAB_class")
    if dataset.dtype.kind not in NUMBER_KINDS + "cVb" or "MATLAB_empty" in attributes:
        return None
    if str(attributes.get("NAME", "")).startswith(NO_VARIABLE):
        return None
    if matlab_class in NOT_NUMBERS:
        return unreadable(name, NOT_NUMBERS[matlab_class], dataset.shape)
    if matlab_class == "char":
        return _char_entry(name, dataset)
    if dataset.dtype.kind in "iu":
        for group in (prefix for prefix in scales if name.startswith(prefix)):
            attributes = scales[group] | attributes
    # MATLAB shows the axes in reverse. Tools that omit its attribute reverse them too, unless the bands come last.
    turned = "MATLAB_class" in attributes or (matlab and len(dataset.shape) == 3 and dataset.shape[2] != bands)

    dtype = np.dtype(bool) if matlab_class == "logical" else dataset.dtype
    check = partial(_check_own_data, path, name, dataset)

    def read() -> np.ndarray:
        check()
        values = _reversed(dataset) if turned else np.asarray(dataset[()])
        return values.astype(dtype, copy=False)

    if (fill := _user_fill(dataset)) is not None:
        attributes.setdefault("_FillValue", fill)
    name, step = name.replace("/", ".") if matlab else name, -1 if turned else 1
    return Entry(name, dataset.shape[::step], dtype, read, check, attributes)


def _reversed(dataset: h5py.Dataset) -> np.ndarray:
    """Reads an array with its axes in reverse, some of the file's chunks at a time: it is in memory only once."""
    values = np.empty(dataset.shape[::-1], dataset.dtype)
    if values.ndim < 2:
        values[...] = dataset[()]
        return values
    # Along the second axis, what is read at once lies in long pieces of a file without chunks.
    length, depth = dataset.shape[1], dataset.chunks[1] if dataset.chunks else 1
    step = depth * max(1, STRIP_VALUES * length // (depth * max(1, dataset.size or 0)))
    for start in range(0, length, step):
        values[..., start : start + step, :] = dataset[:, start : start + step].T
    return values


def _text_entry(name: str, dataset: h5py.Dataset) -> Entry:
    """Lists text, which is read if it is a single one."""

    def read() -> np.ndarray:
        single = dataset.size == 1 and dataset.dtype.itemsize <= MAX_TEXT
        text = np.ravel(np.asarray(dataset[()], object))[0] if single else b""
        return np.array(text.decode("utf-8", "replace"))

    return Entry(name, dataset.shape, np.dtype(str), read)


def _char_entry(name: str, dataset: h5py.Dataset) -> Entry:
    """Lists a MATLAB array of characters, which are stored as codes."""

    def read() -> np.ndarray:
        short = (dataset.size or 0) <= MAX_TEXT and dataset.dtype.kind in "iu"
        return np.array("".join(chr(code) for code in np.ravel(dataset[()]) if 0 < code < 2**16) if short else "")

    return Entry(name.replace("/", "."), dataset.shape[::-1], np.dtype(str), read)


def _attributes(dataset: h5py.Dataset) -> dict[str, Any]:
    """Returns the attributes that are short: numbers as arrays, text as `str`."""
    import h5py

    found: dict[str, Any] = {}
    for name in _needed(dataset):
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


def _has_variable_text(dataset: h5py.Dataset) -> bool:
    own = dataset.dtype.kind == "O"
    return own or any(dataset.attrs.get_id(name).dtype.kind == "O" for name in _needed(dataset))


def _needed(dataset: h5py.Dataset) -> list[str]:
    return [name for name in dataset.attrs if name != UNREAD]


def check_heaps(path: Path) -> None:
    """Refuses a file with a damaged heap, where text of variable length lies: libhdf5 crashes on some, or hangs.

    Source: The HDF Group, "HDF5 File Format Specification", section III.E (Global Heap).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start in _places(file, HEAP):
            if start + 16 <= len(content):
                _check_heap(content, start)


def _places(file: IO[bytes], wanted: bytes) -> Iterator[int]:
    """Yields where bytes begin in a file; reads blocks, since a search of the map would keep all of it in memory."""
    before, kept = 0, b""
    while block := file.read(BLOCK_BYTES):
        window = kept + block
        start = window.find(wanted)
        while start >= 0:
            yield before + start
            start = window.find(wanted, start + 1)
        kept = window[1 - len(wanted) :]
        before += len(window) - len(kept)


def _check_heap(content: mmap.mmap, start: int) -> None:
    end = start + struct.unpack_from("<Q", content, start + 8)[0]
    if end > len(content) and any(content[start + len(HEAP) : start + 8]):
        return  # numbers that look like a heap
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
