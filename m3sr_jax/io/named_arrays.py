"""Files of named arrays: MATLAB v5 and v7.3, HDF5, NPZ."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import check_claim, reading, written_whole
from m3sr_jax.io.matlab5 import read_matlab5
from m3sr_jax.io.wavelengths import BANDS

MATLAB_CLASSES = {np.dtype(np.float32): "single", np.dtype(np.float64): "double", np.dtype(np.uint16): "uint16"}
USER_BLOCK = 512
NUMBER_KINDS = "fiu"


def read_named_arrays(
    path: Path, names: Sequence[str] | None = None, max_values: int | None = None
) -> dict[str, np.ndarray]:
    """Reads numeric arrays from a .mat, .npz or .h5 file; nothing in the file is executed.

    A .mat file may be v5 or v7.3 (HDF5); its bytes tell which. Both give the axes MATLAB shows: v7.3 stores them in
    reverse order, which is undone.

    Args:
        path: the file.
        names: which arrays; None: all.
        max_values: larger arrays are not read; zeros of their shape, which take no memory, stand in. An .npz is
            always read in full.

    Returns:
        name → array; anything but numeric arrays is left out.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    if path.suffix.lower() == ".npz":
        return _read_npz(path, names)
    if path.suffix.lower() == ".h5" or is_hdf5(path):
        return _read_hdf5(path, names, max_values)
    with reading(path, "a MATLAB file"):
        arrays = read_matlab5(path, max_values)
    return {name: array for name, array in arrays.items() if names is None or name in names}


def is_hdf5(path: Path) -> bool:
    """Tells whether the bytes are those of an HDF5 file, with a user block (MATLAB v7.3) or without."""
    import h5py

    return bool(h5py.is_hdf5(path))


def _read_npz(path: Path, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    with (
        reading(path, "an .npz file of numbers"),
        path.open("rb") as file,  # ZipFile would leave it open after an error
        zipfile.ZipFile(file) as archive,
    ):
        members = {entry.removesuffix(".npy"): entry for entry in archive.namelist()}
        chosen = {name: entry for name, entry in members.items() if names is None or name in names}
        arrays = {name: _read_npy(path, archive, entry) for name, entry in chosen.items()}
    return {name: array for name, array in arrays.items() if array is not None}


def _read_npy(path: Path, archive: zipfile.ZipFile, entry: str) -> np.ndarray | None:
    """Reads a numeric array from an archive, after checking its size; returns None for an array of anything else."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which could run code")
        if dtype.kind not in NUMBER_KINDS:
            return None
        check_claim(path, shape, dtype.itemsize)
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_hdf5(path: Path, names: Sequence[str] | None, max_values: int | None) -> dict[str, np.ndarray]:
    import h5py

    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        # Other kinds of links may lead to other files: they are not followed.
        own = [str(name) for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        datasets = {name: item for name in own if isinstance(item := file[name], h5py.Dataset)}
        found = {name: item for name, item in datasets.items() if item.dtype.kind in NUMBER_KINDS}
        bands = next((found[name].size for name in ("bands", "wavelengths") if name in found), len(BANDS))
        arrays = {}
        for name in found if names is None else found.keys() & set(names):
            _check_own_data(path, name, found[name])
            placeholder = max_values is not None and (found[name].size or 0) > max_values
            arrays[name] = np.broadcast_to(np.float32(0), found[name].shape) if placeholder else found[name][()]
            # Tools that omit MATLAB's attribute reverse the axes too, unless the bands already come last.
            reversed_axes = path.suffix.lower() == ".mat" and arrays[name].ndim == 3 and arrays[name].shape[2] != bands
            if reversed_axes or "MATLAB_class" in found[name].attrs:
                arrays[name] = arrays[name].T
    return arrays


def _check_own_data(path: Path, name: str, dataset: Any) -> None:
    """Refuses an HDF5 data set with values in other files, or with more values or larger chunks than fit this file."""
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{path}: the values of {name} are in other files; expected them in this file")
    for extents in (dataset.shape, dataset.chunks or ()):
        check_claim(path, extents, dataset.dtype.itemsize)


@contextmanager
def matlab_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes MATLAB v7.3, which has no 2 GB limit: `cube`, (H, W, S) in MATLAB, `bands` and, for codes, `scale`.

    A v7.3 file is HDF5 after a header block of 512 bytes, with reversed axes and each array's class in an attribute.
    See `m3sr_jax.io.cubes.cube_writer`.
    """
    import h5py

    with written_whole(path) as unfinished:
        with h5py.File(unfinished, "w", userblock_size=USER_BLOCK) as file:
            cube = file.create_dataset("cube", shape[::-1], dtype)
            cube.attrs.update({"source": source} if source else {})
            file["bands"] = wavelengths[:, None]
            if scale is not None:
                file["scale"] = np.full((1, 1), scale)
            for dataset in file.values():
                dataset.attrs["MATLAB_class"] = np.bytes_(MATLAB_CLASSES[dataset.dtype])

            def put(start: int, rows: np.ndarray) -> None:
                cube[:, :, start : start + len(rows)] = rows.T

            yield put
        created = time.strftime("%a %b %d %H:%M:%S %Y")
        text = f"MATLAB 7.3 MAT-file, Platform: m3sr-jax, Created on: {created} HDF5 schema 1.00 ."
        with open(unfinished, "r+b") as file:
            file.write(text.encode().ljust(116) + bytes(8) + b"\x00\x02IM")


@contextmanager
def hdf5_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes `cube` (H, W, S; attribute `source`), `wavelengths` and, for codes, `scale`; see `cube_writer`."""
    import h5py

    with written_whole(path) as unfinished, h5py.File(unfinished, "w") as file:
        cube = file.create_dataset("cube", shape, dtype)
        cube.attrs.update({"source": source} if source else {})
        file["wavelengths"] = wavelengths
        if scale is not None:
            file["scale"] = scale

        def put(start: int, rows: np.ndarray) -> None:
            cube[start : start + len(rows)] = rows

        yield put


@contextmanager
def npz_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes an uncompressed .npz with the arrays of `hdf5_writer`; rows must come in order."""
    with written_whole(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        with archive.open("cube.npy", "w", force_zip64=True) as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)

            def put(start: int, rows: np.ndarray) -> None:
                file.write(np.ascontiguousarray(rows, dtype).data)

            yield put
        for name, value in {"wavelengths": wavelengths, "scale": scale, "source": source or None}.items():
            if value is not None:
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.asarray(value))
