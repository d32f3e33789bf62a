"""Writes cubes row by row to HDF5 and MATLAB v7.3 files.

libhdf5 crashes if it cannot close a file because the disk is full. So it only lays a file out, with places reserved for
the cubes, through a file that keeps errors to itself; the rows are then written past it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.io.files import Put, written_whole

if TYPE_CHECKING:
    import h5py

MATLAB_CLASSES = {np.dtype(np.float32): "single", np.dtype(np.float64): "double", np.dtype(np.uint16): "uint16"}
USER_BLOCK = 512


@contextmanager
def matlab_writer(
    path: Path,
    shape: tuple[int, ...],
    wavelengths: np.ndarray,
    dtype: np.dtype,
    scale: float | None,
    source: str = "",
    names: Sequence[str] = ("cube",),
) -> Iterator[Put]:
    """Writes MATLAB v7.3, which has no 2 GB limit: `names`, (H, W, S) in MATLAB, `bands` and, for codes, `scale`.

    A v7.3 file is HDF5 after a header block of 512 bytes, with reversed axes and each array's class in an attribute.
    See `m3sr_jax.io.cube_writer.cube_writer`.
    """
    with written_whole(path) as unfinished:
        with _laid_out(unfinished, USER_BLOCK) as file:
            places = [_reserved(file, name, shape[::-1], dtype, source) for name in names]
            file["bands"] = wavelengths[:, None]
            if scale is not None:
                file["scale"] = np.full((1, 1), scale)
            for dataset in file.values():
                dataset.attrs["MATLAB_class"] = np.bytes_(MATLAB_CLASSES[dataset.dtype])
        created = time.strftime("%a %b %d %H:%M:%S %Y")
        text = f"MATLAB 7.3 MAT-file, Platform: m3sr-jax, Created on: {created} HDF5 schema 1.00 ."
        height, width, bands = shape
        with unfinished.open("r+b", buffering=0) as file:
            file.write(text.encode().ljust(116) + bytes(8) + b"\x00\x02IM")

            def put(start: int, parts: Sequence[np.ndarray]) -> None:
                for place, rows in zip(places, parts, strict=True):
                    for band in range(bands):
                        columns = np.ascontiguousarray(rows[..., band].T, dtype)
                        first = place + (band * width * height + start) * dtype.itemsize
                        _write_pieces(file, columns, first, len(rows) * dtype.itemsize, height * dtype.itemsize)

            yield put


@contextmanager
def hdf5_writer(
    path: Path,
    shape: tuple[int, ...],
    wavelengths: np.ndarray,
    dtype: np.dtype,
    scale: float | None,
    source: str = "",
    names: Sequence[str] = ("cube",),
) -> Iterator[Put]:
    """Writes `names` (H, W, S; attribute `source`), `wavelengths` and, for codes, `scale`; see `cube_writer`."""
    with written_whole(path) as unfinished:
        with _laid_out(unfinished) as file:
            places = [_reserved(file, name, shape, dtype, source) for name in names]
            file["wavelengths"] = wavelengths
            if scale is not None:
                file["scale"] = scale
        row = shape[1] * shape[2] * dtype.itemsize
        with unfinished.open("r+b", buffering=0) as file:

            def put(start: int, parts: Sequence[np.ndarray]) -> None:
                for place, rows in zip(places, parts, strict=True):
                    _write_pieces(file, np.ascontiguousarray(rows, dtype), place + start * row, len(rows) * row, 0)

            yield put


@contextmanager
def _laid_out(path: Path, user_block: int = 0) -> Iterator[h5py.File]:
    """Opens a new HDF5 file; raises what went wrong with the disk once it is closed."""
    import h5py

    with _QuietFile(path, "w+b") as quiet:
        with h5py.File(quiet, "w", userblock_size=user_block) as file:
            yield file
        if quiet.error is not None:
            raise quiet.error


def _reserved(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, source: str) -> int:
    """Reserves the place of an array, and returns where it begins in the file."""
    import h5py

    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = file.create_dataset(name, shape, dtype, dcpl=early)
    if source and name == "cube":
        dataset.attrs["source"] = source
    return dataset.id.get_offset() or 0  # None for an empty array


def _write_pieces(file: io.FileIO, values: np.ndarray, place: int, size: int, step: int) -> None:
    """Writes pieces of `size` bytes, each to begin `step` bytes behind the last."""
    content = values.reshape(-1).view(np.uint8).data
    for start in range(0, len(content), max(size, 1)):
        piece = content[start : start + size]
        file.seek(place)
        while (written := file.write(piece)) < len(piece):  # on a full disk, or after 2 GB
            piece = piece[written:]
        place += step


class _QuietFile(io.FileIO):
    """A file that libhdf5 writes to: it keeps the first error, and from then on forgets what is written."""

    error: OSError | None = None

    def write(self, content: Any, /) -> int:
        left = memoryview(content).cast("B")
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return 0
