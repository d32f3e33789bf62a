"""Hyperspectral cubes on disk: one pair of functions, the format chosen by suffix.

| suffix | written as | read |
|---|---|---|
| .mat | v7.3, `cube` (H, W, S) single as MATLAB sees it, `bands` | v5 or v7.3, told apart by the bytes |
| .hdr | ENVI, float32 BSQ in .img beside it | BSQ, BIL, BIP, any real type |
| .npz, .h5 | `cube` (H, W, S), `wavelengths` | `cube` with `wavelengths` or `bands` |
| .tif | one float32 page a band, wavelengths in the description | pages of any real type |
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi, named_arrays, tiff

SUFFIXES = (".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5")
# The field's bands: assumed where a file of 31 bands does not say.
USUAL_WAVELENGTHS = np.arange(400.0, 701.0, 10.0)


def read_cube(path: str | os.PathLike[str]) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    """Reads a cube and its wavelengths.

    Which axis holds the bands follows from the shape: the one as long as the wavelengths, or 31 long where the file
    has none (then 400-700 nm). Unsigned integers are divided by the largest value of their type, all else is left as
    it is.

    Args:
        path: a file with one of the suffixes above; an `.img` stands for the `.hdr` beside it.

    Returns:
        cube (H, W, S) and band centres in nm, rising.

    Raises:
        InputError: a file that is missing, damaged or lies about its size, has no cube, no telling bands, or values
            that are not finite.
    """
    path = _known(path)
    suffix = path.suffix.lower()
    if suffix == ".hdr":
        values, wavelengths = envi.read_envi(path)
    elif suffix in (".tif", ".tiff"):
        values, wavelengths = tiff.read_tiff(path)
    else:
        values, wavelengths = _read_named(path)
    return _checked(path, values, wavelengths)


def write_cube(
    path: str | os.PathLike[str], cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"]
) -> None:
    """Writes a cube and its wavelengths; the file appears whole or not at all.

    Args:
        path: where to; its suffix chooses the format.
        cube: reflectance or radiance in [0, 1].
        wavelengths: band centres in nm.

    Raises:
        InputError: an unknown suffix, or a place that cannot be written.
        ValueError: not as many wavelengths as bands.
    """
    path = _known(path)
    if cube.ndim != 3 or np.shape(wavelengths) != cube.shape[2:]:
        raise ValueError(f"cube {cube.shape} and wavelengths {np.shape(wavelengths)} do not belong together")
    suffix = path.suffix.lower()
    wavelengths = np.asarray(wavelengths, np.float64)
    if suffix == ".mat":
        named_arrays.write_matlab(path, {"cube": cube, "bands": wavelengths[None]})
    elif suffix == ".hdr":
        envi.write_envi(path, cube, wavelengths)
    elif suffix in (".tif", ".tiff"):
        tiff.write_tiff(path, cube, wavelengths)
    else:
        write = named_arrays.write_npz if suffix == ".npz" else named_arrays.write_hdf5
        write(path, {"cube": cube, "wavelengths": wavelengths})


def _known(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".hdr")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f'{path}: unknown suffix "{path.suffix}"; cubes are {", ".join(SUFFIXES)}')
    return path


def _read_named(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = named_arrays.read_named_arrays(path, ("cube", "bands", "wavelengths"))
    if "cube" not in arrays:
        found = ", ".join(sorted(named_arrays.read_named_arrays(path))) or "none"
        raise InputError(f"{path}: expected an array of numbers called `cube`; found {found}")
    cube = arrays["cube"]
    wavelengths = arrays.get("wavelengths", arrays.get("bands"))
    return cube, None if wavelengths is None else np.ravel(wavelengths)


def _checked(
    path: Path, values: np.ndarray, wavelengths: np.ndarray | None
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
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
    if values.dtype.kind == "u":
        values = np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        cube = np.ascontiguousarray(np.moveaxis(values, bands[0], -1), np.float32)
    bad = cube.size - int(np.isfinite(cube).sum())
    if bad:
        raise InputError(f"{path}: {bad} of {cube.size} values are not finite; expected a reflectance or radiance cube")
    return cube, wavelengths
