"""Hyperspectral cubes on disk: `read_cube`, the format chosen by suffix; `m3sr_jax.io.cube_writer` writes them.

| suffix | written as | read |
|---|---|---|
| .mat | v7.3, `cube` (H, W, S) as MATLAB shows it, `bands` | v5 or v7.3, recognised by the bytes; structs |
| .hdr | ENVI, BSQ in .img beside it | BSQ, BIL, BIP, any real type, gzip; the data file's name opens it too |
| .npz, .h5 | `cube` (H, W, S), `wavelengths` | any array, by name or the only cube |
| .tif | one page per band, wavelengths in the description | pages or samples of any real type; GDAL's metadata |
| .npy, .nc, .hdf5 | | NumPy, NetCDF-4 and HDF5 |

Values are float32, or uint16 codes stored with their `scale` (ENVI: `reflectance scale factor`): value = code / scale.
Every format can be written from top to bottom, so a cube may be larger than memory. The half-widths of a cube's
intervals are the array `interval` beside `cube`; ENVI and TIFF have a second file, NAME_interval.
docs/data.md lists what each format can declare about its numbers, and what is done with it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi, tiff
from m3sr_jax.io.arrange import Arranged, arrange
from m3sr_jax.io.named_cube import read_named_cube
from m3sr_jax.io.strips import strips
from m3sr_jax.io.tiff_header import TIFF_SUFFIXES, described_tiff, with_header
from m3sr_jax.io.wavelengths import BANDS_BY_HAND

NAMED_SUFFIXES = (".mat", ".npz", ".npy", ".h5", ".hdf5", ".he5", ".hdf", ".nc", ".nc4")
READ_SUFFIXES = (".hdr", *TIFF_SUFFIXES, *NAMED_SUFFIXES)


@dataclass(frozen=True)
class Cube:
    """A cube as read from a file.

    Attributes:
        values: (H, W, S); NaN where the file says that a value is missing.
        wavelengths: band centres in nm, rising; None if the file has none and they cannot be assumed.
        notes: what was chosen, guessed or applied, in words.
    """

    values: Float32[np.ndarray, "H W S"]
    wavelengths: Float64[np.ndarray, " S"] | None
    notes: tuple[str, ...]


def read_cube(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    wavelengths: str | None = None,
    white: float | None = None,
    allow_missing: bool = False,
) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
    """Reads a cube and its wavelengths; as `read_cube_file`, but a cube needs wavelengths.

    Returns:
        cube (H, W, S) and band centres in nm, rising.

    Raises:
        InputError: as `read_cube_file`; or the file has no wavelengths and other than 31 bands.
    """
    cube = read_cube_file(path, key=key, wavelengths=wavelengths, white=white, allow_missing=allow_missing)
    return cube.values, _needed(path, cube.values.shape, cube.wavelengths, cube.notes)


def read_cube_file(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    wavelengths: str | None = None,
    white: float | None = None,
    allow_missing: bool = False,
) -> Cube:
    """Reads a cube, applies what its file declares about its numbers, and tells what was chosen or guessed.

    Bands are sorted by wavelength; those that the file marks as bad are left out. 31 bands without wavelengths are
    taken for 400-700 nm. Unsigned integers without a declared scale are divided by the largest value of their type;
    other values are returned unchanged.

    Args:
        path: a file with one of the suffixes above, or the data file of an ENVI header.
        key: the array of a file of named arrays, see `m3sr_jax.io.entries.choose_cube`.
        wavelengths: in place of the file's, "400:700:10" or a file, see `m3sr_jax.io.wavelengths.parse_wavelengths`.
        white: the stored number that becomes 1, for files that declare no scale.
        allow_missing: return NaN and infinite values instead of refusing the file.

    Raises:
        InputError: the file is missing or damaged, claims more data than it holds, declares what cannot be applied,
            has no cube or no axis of bands, or holds values that are not finite (unless `allow_missing`); or `white` is
            not a finite number above 0.
    """
    if white is not None and not 0 < white < math.inf:
        raise InputError(f"{path}: found white {white:g}; expected a finite number above 0, which becomes 1")
    found = _arranged(path, key, wavelengths)
    if white is not None:
        if found.coding.scaled:
            raise InputError(f"{path}: found white {white:g}, but the file declares its own scale; leave white unset")
        found = replace(found, coding=replace(found.coding, divisor=white))
    notes = found.notes + _integer_note(found)
    cube = found.coding.decode(found.values)
    bad = 0 if allow_missing else sum(int((~np.isfinite(cube[rows])).sum()) for rows in strips(cube.shape))
    if bad:
        source = f", some by {found.coding.source}" if found.coding.source else ""
        expected = "expected a reflectance or radiance cube without gaps"
        raise InputError(f"{path}: {bad} of {cube.size} values are not finite or missing{source}; {expected}")
    return Cube(cube, found.wavelengths, tuple(notes))


def read_cube_header(
    path: str | os.PathLike[str], *, key: str | None = None, wavelengths: str | None = None
) -> tuple[tuple[int, int, int], Float64[np.ndarray, " S"]]:
    """Reads a cube's shape (H, W, S) and wavelengths; skips the values in files of named arrays.

    Raises:
        InputError: as `read_cube`, except for unusable values that were skipped.
    """
    found = _arranged(path, key, wavelengths, values=False)
    height, width, bands = found.values.shape
    return (height, width, bands), _needed(path, found.values.shape, found.wavelengths, found.notes)


def cube_notes(path: str | os.PathLike[str], *, key: str | None = None, wavelengths: str | None = None) -> list[str]:
    """Returns what the reader chooses, guesses or applies, in words; skips the values as `read_cube_header` does."""
    return list(_arranged(path, key, wavelengths, values=False).notes)


def files_of_cube(path: Path) -> list[Path]:
    """Returns the files that reading a cube may open: for ENVI and TIFF also those beside it, called NAME or NAME.*."""
    if path.suffix.lower() in NAMED_SUFFIXES:
        return [path]
    stem = path.stem.lower()
    names = (name for name in os.listdir(path.parent) if f"{name.lower()}.".startswith(f"{stem}."))
    return [path.with_name(name) for name in sorted(names)]


def _arranged(
    path: str | os.PathLike[str], key: str | None, wavelengths: str | None, *, values: bool = True
) -> Arranged:
    """Reads stored numbers, or (`values=False`, where the format allows) their shape alone, bands last."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in NAMED_SUFFIXES:
        stored = read_named_cube(path, key, values=values, own_wavelengths=wavelengths is None)
        return arrange(path, stored, wavelengths)
    if key is not None:
        raise InputError(f"{path}: key {key}: a {suffix or 'raw'} file has no named arrays; leave the key out")
    if suffix in TIFF_SUFFIXES:
        stored = tiff.read_tiff(path, own_wavelengths=wavelengths is None)
        return arrange(path, with_header(path, stored), wavelengths)
    header = path if suffix == ".hdr" else envi.find_header(path)
    if header is None:
        expected = f"expected one of {', '.join(READ_SUFFIXES)}, or an ENVI data file beside its .hdr"
        missing = "" if path.exists() else "there is no such file; "
        raise InputError(f'{path}: {missing}found suffix "{path.suffix}"; {expected}')
    if suffix == ".hdr" and (tiff_file := described_tiff(header)) is not None:
        stored = tiff.read_tiff(tiff_file, own_wavelengths=wavelengths is None)
        return arrange(path, with_header(tiff_file, stored), wavelengths)
    data = path if path.is_file() and suffix != ".hdr" else None
    return arrange(path, envi.read_envi(header, data, own_wavelengths=wavelengths is None), wavelengths)


def _integer_note(cube: Arranged) -> list[str]:
    """Says how integers without a declared scale become values."""
    dtype = cube.values.dtype
    if cube.coding.scaled or dtype.kind not in "iu":
        return []
    largest = np.iinfo(dtype).max
    return [f"{dtype}: divided by {largest}, no scale declared" if dtype.kind == "u" else f"{dtype}: kept, no scale"]


def _needed(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    wavelengths: Float64[np.ndarray, " S"] | None,
    notes: Sequence[str],
) -> Float64[np.ndarray, " S"]:
    if wavelengths is None:
        found = f"a cube of shape {tuple(shape)} without wavelengths" + "".join(f" ({note})" for note in notes[-1:])
        raise InputError(f"{path}: found {found}; expected one per band: {BANDS_BY_HAND}")
    return wavelengths
