"""Files of named arrays: MATLAB v5 and v7.3, HDF5, NetCDF-4, NPZ, NPY."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.entries import Entry
from m3sr_jax.io.files import BoundedFile, Put, check_claim, reading, written_whole
from m3sr_jax.io.hdf5 import hdf5_entries, is_hdf5
from m3sr_jax.io.matlab5 import matlab5_entries


@contextmanager
def open_arrays(path: Path) -> Iterator[dict[str, Entry]]:
    """Lists the arrays of a .mat, .npz, .npy, HDF5 or NetCDF-4 file; nothing in the file is executed.

    A .mat file may be v5 or v7.3 (HDF5); its bytes tell which. Both give the axes MATLAB shows.

    Yields:
        name → array; they can be read until the block ends.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        with reading(path, f"an {suffix} file of numbers"), BoundedFile(path) as file:
            yield _npz_entries(path, file) if suffix == ".npz" else _npy_entries(path, file)
    elif suffix != ".mat" or (path.is_file() and is_hdf5(path)):
        with reading(path, "an HDF5 file"):
            _check_magic(path)
            with hdf5_entries(path) as entries:
                yield entries
    else:
        with reading(path, "a MATLAB file"):
            yield matlab5_entries(path)


def read_named_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Reads numeric arrays from a file of named arrays, see `open_arrays`.

    Args:
        path: the file.
        names: which arrays; None: all.

    Returns:
        name → array; anything but real numeric arrays is left out.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    with open_arrays(path) as entries:
        wanted = [entry for entry in entries.values() if entry.numeric and (names is None or entry.name in names)]
        return {entry.name: entry.read() for entry in wanted}


def _check_magic(path: Path) -> None:
    """Refuses older formats that share HDF5's suffixes by name."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:3] == b"CDF":
        raise InputError(f"{path}: found classic NetCDF; expected NetCDF-4: convert it with nccopy -k nc4 IN OUT")
    if start == b"\x0e\x03\x13\x01":
        raise InputError(f"{path}: found HDF4; expected HDF5: convert it with h4toh5 IN OUT")


def _npz_entries(path: Path, file: Any) -> dict[str, Entry]:
    archive = zipfile.ZipFile(file)  # ZipFile(path) would leave the file open after an error
    entries = {}
    for member in archive.namelist():
        if member.endswith(".npy"):
            name = member.removesuffix(".npy")
            with archive.open(member) as opened:
                entries[name] = _npy_entry(path, name, opened, lambda member=member: archive.open(member))
    return entries


def _npy_entries(path: Path, file: Any) -> dict[str, Entry]:
    entry = _npy_entry(path, "cube", file, lambda: BoundedFile(path), compressed=False)
    return {entry.name: entry}


def _npy_entry(path: Path, name: str, file: Any, reopen: Callable[[], Any], *, compressed: bool = True) -> Entry:
    """Lists an array by its header, after checking its size."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code")

    check = partial(check_claim, path, shape, dtype.itemsize, compressed)

    def read() -> np.ndarray:
        check()
        with reopen() as opened:
            return np.lib.format.read_array(opened, allow_pickle=False)

    return Entry(name, shape, dtype, read, check)


@contextmanager
def npz_writer(
    path: Path,
    shape: tuple[int, ...],
    wavelengths: np.ndarray,
    dtype: np.dtype,
    scale: float | None,
    source: str = "",
    names: Sequence[str] = ("cube",),
) -> Iterator[Put]:
    """Writes an uncompressed .npz with the arrays of `m3sr_jax.io.hdf5_writer.hdf5_writer`; rows must come in order.

    An archive is written one member at a time: all arrays but the first wait in temporary files beside it.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with ExitStack() as stack:
        archive = zipfile.ZipFile(stack.enter_context(written_whole(path)), "w")
        stack.enter_context(archive)
        waiting = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in names[1:]}
        with archive.open(f"{names[0]}.npy", "w", force_zip64=True) as file:
            files = [file, *waiting.values()]
            for opened in files:
                np.lib.format.write_array_header_1_0(opened, header)

            def put(start: int, parts: Sequence[np.ndarray]) -> None:
                for opened, rows in zip(files, parts, strict=True):
                    opened.write(np.ascontiguousarray(rows, dtype).data)

            yield put
        for name, opened in waiting.items():
            opened.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                shutil.copyfileobj(opened, file, 2**20)
        for name, value in {"wavelengths": wavelengths, "scale": scale, "source": source or None}.items():
            if value is not None:
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(value))
