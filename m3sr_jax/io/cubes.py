"""Hyperspectral cubes on disk: `read_cube` and `write_cube`, the format chosen by suffix.

| suffix | written as | read |
|---|---|---|
| .mat | v7.3, `cube` (H, W, S) as MATLAB shows it, `bands` | v5 or v7.3, recognised by the bytes |
| .hdr | ENVI, BSQ in .img beside it | BSQ, BIL, BIP, any real type |
| .npz, .h5 | `cube` (H, W, S), `wavelengths` | `cube` with `wavelengths` or `bands` |
| .tif | one page per band, wavelengths in the description | pages of any real type |

Values are float32, or uint16 codes stored with their `scale` (ENVI: `reflectance scale factor`): value = code / scale.
Every format can be written from top to bottom, so a cube may be larger than memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy.typing import DTypeLike

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi, named_arrays, tiff
from m3sr_jax.io.wavelengths import BANDS, check_wavelengths

SUFFIXES = (".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5")
MAX_BANDS = 4096  # larger arrays are cubes, which `read_cube_header` does not read


def read_cube(
    path: str | os.PathLike[str], *, allow_missing: bool = False
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    """Reads a cube and its wavelengths.

    The axis with one entry per wavelength holds the bands; without wavelengths, the axis of length 31 (400-700 nm).
    Unsigned integers are divided by the largest value of their type; other values are returned unchanged.

    Args:
        path: a file with one of the suffixes above; an `.img` stands for the `.hdr` beside it.
        allow_missing: return NaN and infinite values instead of refusing the file.

    Returns:
        cube (H, W, S) and band centres in nm, rising.

    Raises:
        InputError: the file is missing or damaged, claims more data than it holds, has no cube or no axis of bands,
            or holds values that are not finite (unless `allow_missing`).
    """
    path = _cube_path(path)
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        values, wavelengths = envi.read_envi(path)
    elif suffix in (".tif", ".tiff"):
        values, wavelengths = tiff.read_tiff(path)
    else:
        values, wavelengths = _read_named(path)
    return _checked(path, values, wavelengths, allow_missing)


def read_cube_header(path: str | os.PathLike[str]) -> tuple[tuple[int, int, int], Float64[np.ndarray, " S"]]:
    """Reads a cube's shape (H, W, S) and wavelengths; skips the values of .mat and .h5 files.

    Raises:
        InputError: as `read_cube`, except for unusable values that were skipped.
    """
    path = _cube_path(path)
    if path.suffix.lower() not in (".mat", ".h5"):
        cube, wavelengths = read_cube(path)
    else:
        cube, wavelengths = _bands_last(path, *_read_named(path, max_values=MAX_BANDS))
    height, width, bands = cube.shape
    return (height, width, bands), wavelengths


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
        InputError: the suffix is unknown, or the file cannot be written.
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
) -> Iterator[Callable[[Float32[np.ndarray, "h W S"]], None]]:
    """Opens a cube for writing from top to bottom; the file appears when the block ends.

    Args:
        path: the file; its suffix chooses the format.
        shape: (H, W, S) of the whole cube.
        wavelengths: band centres in nm.
        dtype: as in `write_cube`.
        source: where the values come from, one line that is stored in the file: the attribute or array `source`, or
            ENVI's description.

    Yields:
        A function that takes the cube's next rows.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
        ValueError: the numbers of wavelengths and bands differ, or of rows written and `shape`; or another dtype.
    """
    path, dtype = _cube_path(path), np.dtype(dtype)
    if len(shape) != 3 or np.shape(wavelengths) != shape[2:]:
        raise ValueError(f"found wavelengths {np.shape(wavelengths)} for a cube {shape}; expected one for each band")
    if dtype not in (np.float32, np.uint16):
        raise ValueError(f"cubes are written as float32 or uint16, not {dtype}")
    scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else None
    done = 0
    with _WRITERS[path.suffix.lower()](path, shape, np.asarray(wavelengths, np.float64), dtype, scale, source) as put:

        def append(rows: np.ndarray) -> None:
            nonlocal done
            if scale is not None:
                rows = np.rint(np.clip(rows, 0, 1) * np.float32(scale)).astype(dtype)
            put(done, rows)
            done += len(rows)

        yield append
        if done != shape[0]:
            raise ValueError(f"{path}: {done} of {shape[0]} rows were written")


# Each takes (path, shape, wavelengths, dtype, scale, source) and yields a function of (first row, rows).
_WRITERS: dict[str, Callable[..., AbstractContextManager[Callable[[int, np.ndarray], None]]]] = {
    ".mat": named_arrays.matlab_writer,
    ".hdr": envi.envi_writer,
    ".npz": named_arrays.npz_writer,
    ".tif": tiff.tiff_writer,
    ".tiff": tiff.tiff_writer,
    ".h5": named_arrays.hdf5_writer,
}


def _cube_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a cube, which must have a known suffix; of an `.img` that of its `.hdr`."""
    path = Path(path)
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".hdr")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f'{path}: found suffix "{path.suffix}"; expected one of {", ".join(SUFFIXES)}')
    return path


def _read_named(path: Path, max_values: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = named_arrays.read_named_arrays(path, ("cube", "bands", "wavelengths"), max_values)
    if "cube" not in arrays:
        names = sorted(named_arrays.read_named_arrays(path))
        found = f"numeric arrays {', '.join(names)}" if names else "no numeric arrays"
        raise InputError(f"{path}: found {found}; expected one named cube")
    cube = arrays["cube"]
    wavelengths = arrays.get("wavelengths", arrays.get("bands"))
    if wavelengths is not None and wavelengths.size > MAX_BANDS:
        raise InputError(f"{path}: found {wavelengths.size} wavelengths; expected one per band, at most {MAX_BANDS}")
    return cube, None if wavelengths is None else np.ravel(wavelengths)


def _checked(
    path: Path, values: np.ndarray, wavelengths: np.ndarray | None, allow_missing: bool
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    values, wavelengths = _bands_last(path, values, wavelengths)
    if values.dtype.kind == "u":
        values = np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is refused below
        cube = np.ascontiguousarray(values, np.float32)
    bad = 0 if allow_missing else cube.size - int(np.isfinite(cube).sum())
    if bad:
        raise InputError(f"{path}: {bad} of {cube.size} values are not finite; expected a reflectance or radiance cube")
    return cube, wavelengths


def _bands_last(
    path: Path, values: np.ndarray, wavelengths: np.ndarray | None
) -> tuple[np.ndarray, Float64[np.ndarray, " S"]]:
    """Returns the cube with its bands on the last axis, and their wavelengths."""
    if values.ndim != 3 or not values.size or values.dtype.kind not in "fiu":
        raise InputError(f"{path}: found {values.dtype} values of shape {values.shape}; expected numbers on 3 axes")
    reason = "one per wavelength" if wavelengths is not None else "the default for a file without wavelengths"
    wavelengths = BANDS if wavelengths is None else np.asarray(wavelengths, np.float64)
    bands = [axis for axis in (2, 0, 1) if values.shape[axis] == len(wavelengths)]
    if not bands:
        raise InputError(
            f"{path}: found a cube of shape {values.shape}; expected an axis of {len(wavelengths)} bands ({reason})"
        )
    check_wavelengths(wavelengths, path)
    return np.moveaxis(values, bands[0], -1), wavelengths
