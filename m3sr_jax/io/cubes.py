"""Hyperspectral cubes on disk: one pair of functions, the format chosen by suffix.

| suffix | written as | read |
|---|---|---|
| .mat | v7.3, `cube` (H, W, S) as MATLAB sees it, `bands` | v5 or v7.3, told apart by the bytes |
| .hdr | ENVI, BSQ in .img beside it | BSQ, BIL, BIP, any real type |
| .npz, .h5 | `cube` (H, W, S), `wavelengths` | `cube` with `wavelengths` or `bands` |
| .tif | one page a band, wavelengths in the description | pages of any real type |

Values are float32, or uint16 codes with `scale` beside them (ENVI: `reflectance scale factor`): value = code / scale.
Every format can be written from top to bottom, so that a cube larger than memory can be made.
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

SUFFIXES = (".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5")
HEADER_VALUES = 4096  # wavelengths are fewer, a cube's values are more
# The field's bands: assumed where a file of 31 bands does not say.
USUAL_WAVELENGTHS = np.arange(400.0, 701.0, 10.0)


def read_cube(
    path: str | os.PathLike[str], *, allow_missing: bool = False
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    """Reads a cube and its wavelengths.

    Which axis holds the bands follows from the shape: the one as long as the wavelengths, or 31 long where the file
    has none (then 400-700 nm). Unsigned integers are divided by the largest value of their type, all else is left as
    it is.

    Args:
        path: a file with one of the suffixes above; an `.img` stands for the `.hdr` beside it.
        allow_missing: give back values that are not finite as they are, instead of refusing the file.

    Returns:
        cube (H, W, S) and band centres in nm, rising.

    Raises:
        InputError: a file that is missing, damaged or lies about its size, has no cube, no telling bands, or values
            that are not finite (but for `allow_missing`).
    """
    path = _known(path)
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        values, wavelengths = envi.read_envi(path)
    elif suffix in (".tif", ".tiff"):
        values, wavelengths = tiff.read_tiff(path)
    else:
        values, wavelengths = _read_named(path)
    return _checked(path, values, wavelengths, allow_missing)


def read_cube_header(path: str | os.PathLike[str]) -> tuple[tuple[int, int, int], Float64[np.ndarray, " S"]]:
    """Reads a cube's shape (H, W, S) and wavelengths; of .mat and .h5 files the values are passed over.

    Raises:
        InputError: as `read_cube`, but for what is wrong with the values.
    """
    path = _known(path)
    if path.suffix.lower() not in (".mat", ".h5"):
        cube, wavelengths = read_cube(path)
        return (cube.shape[0], cube.shape[1], cube.shape[2]), wavelengths
    values, wavelengths = _read_named(path, largest=HEADER_VALUES)
    cube, wavelengths = _bands_last(path, values, wavelengths)
    return (cube.shape[0], cube.shape[1], cube.shape[2]), wavelengths


def write_cube(
    path: str | os.PathLike[str],
    cube: Float32[np.ndarray, "H W S"],
    wavelengths: Float[np.ndarray, " S"],
    dtype: DTypeLike = np.float32,
) -> None:
    """Writes a cube and its wavelengths; the file appears whole or not at all.

    Args:
        path: where to; its suffix chooses the format.
        cube: reflectance or radiance in [0, 1].
        wavelengths: band centres in nm.
        dtype: float32; or uint16, which clips to [0, 1] and stores round(65535·value), with its scale.

    Raises:
        InputError: an unknown suffix, or a place that cannot be written.
        ValueError: not as many wavelengths as bands.
    """
    with cube_writer(path, cube.shape, wavelengths, dtype) as append:
        append(cube)


@contextmanager
def cube_writer(
    path: str | os.PathLike[str], shape: tuple[int, ...], wavelengths: Float[np.ndarray, " S"], dtype: DTypeLike
) -> Iterator[Callable[[Float32[np.ndarray, "h W S"]], None]]:
    """Opens a cube to be written from top to bottom; the file appears, whole, once the block is through.

    Args:
        path: where to; its suffix chooses the format.
        shape: (H, W, S) of the whole cube.
        wavelengths: band centres in nm.
        dtype: as in `write_cube`.

    Yields:
        A function that takes the cube's next rows.

    Raises:
        InputError: an unknown suffix, or a place that cannot be written.
        ValueError: not as many wavelengths as bands, another dtype, or not as many rows as the shape says.
    """
    path, dtype = _known(path), np.dtype(dtype)
    if len(shape) != 3 or np.shape(wavelengths) != shape[2:]:
        raise ValueError(f"cube {shape} and wavelengths {np.shape(wavelengths)} do not belong together")
    if dtype not in (np.float32, np.uint16):
        raise ValueError(f"cubes are written as float32 or uint16, not {dtype}")
    scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else None
    done = 0
    with _WRITERS[path.suffix.lower()](path, shape, np.asarray(wavelengths, np.float64), dtype, scale) as put:

        def append(rows: np.ndarray) -> None:
            nonlocal done
            if scale is not None:
                rows = np.rint(np.clip(rows, 0, 1) * np.float32(scale)).astype(dtype)
            put(done, rows)
            done += len(rows)

        yield append
        if done != shape[0]:
            raise ValueError(f"{path}: {done} rows were written of {shape[0]}")


# Each is called with (path, shape, wavelengths, dtype, scale), and gives a function of (first row, rows).
_WRITERS: dict[str, Callable[..., AbstractContextManager[Callable[[int, np.ndarray], None]]]] = {
    ".mat": named_arrays.matlab_writer,
    ".hdr": envi.envi_writer,
    ".npz": named_arrays.npz_writer,
    ".tif": tiff.tiff_writer,
    ".tiff": tiff.tiff_writer,
    ".h5": named_arrays.hdf5_writer,
}


def _known(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".hdr")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f'{path}: unknown suffix "{path.suffix}"; cubes are {", ".join(SUFFIXES)}')
    return path


def _read_named(path: Path, largest: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = named_arrays.read_named_arrays(path, ("cube", "bands", "wavelengths"), largest)
    if "cube" not in arrays:
        found = ", ".join(sorted(named_arrays.read_named_arrays(path))) or "none"
        raise InputError(f"{path}: expected an array of numbers called `cube`; found {found}")
    cube = arrays["cube"]
    wavelengths = arrays.get("wavelengths", arrays.get("bands"))
    if wavelengths is not None and wavelengths.size > HEADER_VALUES:
        raise InputError(f"{path}: found {wavelengths.size} wavelengths; expected one a band, {HEADER_VALUES} at most")
    return cube, None if wavelengths is None else np.ravel(wavelengths)


def _checked(
    path: Path, values: np.ndarray, wavelengths: np.ndarray | None, allow_missing: bool
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    values, wavelengths = _bands_last(path, values, wavelengths)
    if values.dtype.kind == "u":
        values = np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        cube = np.ascontiguousarray(values, np.float32)
    bad = 0 if allow_missing else cube.size - int(np.isfinite(cube).sum())
    if bad:
        raise InputError(f"{path}: {bad} of {cube.size} values are not finite; expected a reflectance or radiance cube")
    return cube, wavelengths


def _bands_last(
    path: Path, values: np.ndarray, wavelengths: np.ndarray | None
) -> tuple[np.ndarray, Float64[np.ndarray, " S"]]:
    """The cube with its bands on the last axis, and their wavelengths."""
    if values.ndim != 3 or not values.size or values.dtype.kind not in "fiu":
        raise InputError(f"{path}: found {values.dtype} values of shape {values.shape}; expected numbers on 3 axes")
    source = "its wavelengths" if wavelengths is not None else "it has no wavelengths: then 31"
    wavelengths = USUAL_WAVELENGTHS if wavelengths is None else np.asarray(wavelengths, np.float64)
    bands = [axis for axis in (2, 0, 1) if values.shape[axis] == len(wavelengths)]
    if not bands:
        raise InputError(
            f"{path}: found a cube of shape {values.shape}; expected an axis of {len(wavelengths)} bands ({source})"
        )
    if not (np.diff(wavelengths) > 0).all() or not 100 < wavelengths[0] <= wavelengths[-1] < 20_000:
        raise InputError(f"{path}: wavelengths must rise and be in nm; found {wavelengths[0]:g} to {wavelengths[-1]:g}")
    return np.moveaxis(values, bands[0], -1), wavelengths
