"""Writes hyperspectral cubes, whole or from top to bottom; `m3sr_jax.io.cubes` lists the formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from numpy.typing import DTypeLike

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi, hdf5_writer, named_arrays, tiff
from m3sr_jax.io.files import Put, unicode

SUFFIXES = (".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5")  # that can be written


def write_cube(
    path: str | os.PathLike[str],
    cube: Float32[np.ndarray, "H W S"],
    wavelengths: Float[np.ndarray, " S"],
    dtype: DTypeLike = np.float32,
) -> None:
    """Writes a cube and its wavelengths; the file appears whole or not at all.

    Args:
        path: the file; its suffix chooses the format.
        cube: reflectance or radiance in [0, 1].
        wavelengths: band centres in nm.
        dtype: float32; or uint16, which clips to [0, 1] and stores round(65535·value), with its scale.

    Raises:
        InputError: the suffix is unknown, the file cannot be written, or a value for uint16 is missing (NaN).
        ValueError: the numbers of wavelengths and bands differ.
    """
    with cube_writer(path, cube.shape, wavelengths, dtype) as append:
        append(cube)


@contextmanager
def cube_writer(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    wavelengths: Float[np.ndarray, " S"],
    dtype: DTypeLike,
    source: str = "",
    interval: bool = False,
) -> Iterator[Callable[..., None]]:
    """Opens a cube for writing from top to bottom; the file appears when the block ends.

    Args:
        path: the file; its suffix chooses the format.
        shape: (H, W, S) of the whole cube.
        wavelengths: band centres in nm.
        dtype: as in `write_cube`.
        source: where the values come from, one line that is stored in the file: the attribute or array `source`, or
            ENVI's description.
        interval: whether the half-widths of the cube's intervals are written as well, as `dtype` too.

    Yields:
        A function that takes the cube's next rows and, with `interval`, their half-widths.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
        ValueError: the numbers of wavelengths and bands differ, or the rows written and `shape`; or another dtype.
    """
    path, dtype = _written_path(path), np.dtype(dtype)
    if len(shape) != 3 or np.shape(wavelengths) != shape[2:]:
        raise ValueError(f"found wavelengths {np.shape(wavelengths)} for a cube {shape}; expected one for each band")
    if dtype not in (np.float32, np.uint16):
        raise ValueError(f"cubes are written as float32 or uint16, not {dtype}")
    scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else None
    done = 0
    with _opened(path, interval, shape, np.asarray(wavelengths, np.float64), dtype, scale, unicode(source)) as put:

        def append(rows: np.ndarray, widths: np.ndarray | None = None) -> None:
            nonlocal done
            parts = [rows] if widths is None else [rows, widths]
            if any(part.shape != (len(rows), *shape[1:]) for part in parts):
                raise ValueError(f"{path}: found rows of {[part.shape for part in parts]} for a cube {tuple(shape)}")
            if scale is not None:
                if any(np.isnan(part).any() for part in parts):
                    raise InputError(f"{path}: found missing values (NaN), which {dtype} cannot hold; write float32")
                parts = [np.rint(np.clip(part, 0, 1) * np.float32(scale)).astype(dtype) for part in parts]
            put(done, parts)
            done += len(rows)

        yield append
        if done != shape[0]:
            raise ValueError(f"{path}: {done} of {shape[0]} rows were written")


@contextmanager
def _opened(path: Path, interval: bool, *facts: Any) -> Iterator[Put]:
    """Opens a file of named arrays, or one file for the cube and one for its interval."""
    suffix = path.suffix.lower()
    if suffix in _ARRAY_WRITERS:
        with _ARRAY_WRITERS[suffix](path, *facts, names=("cube", "interval") if interval else ("cube",)) as put:
            yield put
        return
    with ExitStack() as stack:  # the interval appears first: a cube that exists is complete
        *layout, source = facts
        puts = [stack.enter_context(_FILE_WRITERS[suffix](path, *facts))]
        if interval:
            told = f"half-widths of intervals around {path.name}: {source}"
            puts.append(stack.enter_context(_FILE_WRITERS[suffix](interval_file(path), *layout, told)))

        def put_all(start: int, parts: Sequence[np.ndarray]) -> None:
            for put, rows in zip(puts, parts, strict=True):
                put(start, rows)

        yield put_all


def interval_file(path: Path) -> Path:
    """Returns the file of the interval of a cube in ENVI or TIFF format."""
    return path.with_name(f"{path.stem}_interval{path.suffix}")


# Each takes (path, shape, wavelengths, dtype, scale, source).
_FILE_WRITERS: dict[str, Callable[..., AbstractContextManager[Callable[[int, np.ndarray], None]]]] = {
    ".hdr": envi.envi_writer,
    ".tif": tiff.tiff_writer,
    ".tiff": tiff.tiff_writer,
}
_ARRAY_WRITERS: dict[str, Callable[..., AbstractContextManager[Put]]] = {
    ".mat": hdf5_writer.matlab_writer,
    ".npz": named_arrays.npz_writer,
    ".h5": hdf5_writer.hdf5_writer,
}


def _written_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a cube to write, which must have a known suffix; of an `.img` that of its `.hdr`."""
    path = Path(path)
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".hdr")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f'{path}: found suffix "{path.suffix}"; expected one of {", ".join(SUFFIXES)}')
    return path
