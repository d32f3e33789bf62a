"""Hyperspectral cubes on disk: `read_cube` and `write_cube`, the format chosen by suffix.

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

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy.typing import DTypeLike

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi, named_arrays, tiff
from m3sr_jax.io.arrange import Arranged, arrange
from m3sr_jax.io.declared import Coding, Stored
from m3sr_jax.io.envi_header import read_header
from m3sr_jax.io.named_cube import read_named_cube
from m3sr_jax.io.wavelengths import BANDS_BY_HAND

SUFFIXES = (".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5")  # that can be written
NAMED_SUFFIXES = (".mat", ".npz", ".npy", ".h5", ".hdf5", ".he5", ".hdf", ".nc", ".nc4")
TIFF_SUFFIXES = (".tif", ".tiff")
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
            has no cube or no axis of bands, or holds values that are not finite (unless `allow_missing`).
    """
    found = _arranged(path, key, wavelengths)
    if white is not None:
        if found.coding.scaled:
            raise InputError(f"{path}: found white {white:g}, but the file declares its own scale; leave white unset")
        found = replace(found, coding=replace(found.coding, divisor=white))
    notes = found.notes + _integer_note(found)
    cube = found.coding.decode(found.values)
    bad = 0 if allow_missing else cube.size - int(np.isfinite(cube).sum())
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
        ValueError: the numbers of wavelengths and bands differ, or of rows written and `shape`; or another dtype.
    """
    path, dtype = _written_path(path), np.dtype(dtype)
    if len(shape) != 3 or np.shape(wavelengths) != shape[2:]:
        raise ValueError(f"found wavelengths {np.shape(wavelengths)} for a cube {shape}; expected one for each band")
    if dtype not in (np.float32, np.uint16):
        raise ValueError(f"cubes are written as float32 or uint16, not {dtype}")
    scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else None
    done = 0
    with _opened(path, interval, shape, np.asarray(wavelengths, np.float64), dtype, scale, source) as put:

        def append(rows: np.ndarray, widths: np.ndarray | None = None) -> None:
            nonlocal done
            parts = [rows] if widths is None else [rows, widths]
            if scale is not None:
                parts = [np.rint(np.clip(part, 0, 1) * np.float32(scale)).astype(dtype) for part in parts]
            put(done, parts)
            done += len(rows)

        yield append
        if done != shape[0]:
            raise ValueError(f"{path}: {done} of {shape[0]} rows were written")


@contextmanager
def _opened(path: Path, interval: bool, *facts: Any) -> Iterator[named_arrays.Put]:
    """Opens a file of named arrays, or one file for the cube and one for its interval."""
    suffix = path.suffix.lower()
    if suffix in _ARRAY_WRITERS:
        with _ARRAY_WRITERS[suffix](path, *facts, names=("cube", "interval") if interval else ("cube",)) as put:
            yield put
        return
    with ExitStack() as stack:  # the interval appears first: a cube that exists is complete
        paths = (path, interval_file(path)) if interval else (path,)
        puts = [stack.enter_context(_FILE_WRITERS[suffix](each, *facts)) for each in paths]

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
_ARRAY_WRITERS: dict[str, Callable[..., AbstractContextManager[named_arrays.Put]]] = {
    ".mat": named_arrays.matlab_writer,
    ".npz": named_arrays.npz_writer,
    ".h5": named_arrays.hdf5_writer,
}


def _written_path(path: str | os.PathLike[str]) -> Path:
    """Returns the path of a cube to write, which must have a known suffix; of an `.img` that of its `.hdr`."""
    path = Path(path)
    if path.suffix.lower() == ".img":
        path = path.with_suffix(".hdr")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f'{path}: found suffix "{path.suffix}"; expected one of {", ".join(SUFFIXES)}')
    return path


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
        return arrange(path, _with_header(path, tiff.read_tiff(path)), wavelengths)
    header = path if suffix == ".hdr" else envi.find_header(path)
    if header is None:
        expected = f"expected one of {', '.join(READ_SUFFIXES)}, or an ENVI data file beside its .hdr"
        missing = "" if path.is_file() else "there is no such file; "
        raise InputError(f'{path}: {missing}found suffix "{path.suffix}"; {expected}')
    if suffix == ".hdr" and (tiff_file := _described_tiff(header)) is not None:
        return arrange(path, _with_header(tiff_file, tiff.read_tiff(tiff_file)), wavelengths)
    data = path if path.is_file() and suffix != ".hdr" else None
    return arrange(path, envi.read_envi(header, data, own_wavelengths=wavelengths is None), wavelengths)


def _described_tiff(header: Path) -> Path | None:
    """Returns the TIFF that an ENVI header describes; None if it describes raw numbers."""
    if not header.is_file() or not read_header(header).of_tiff:
        return None
    found = envi.data_files(header, TIFF_SUFFIXES)
    if not found:
        raise InputError(f"{header}: file type = TIFF, but there is no {header.stem} with .tif beside it")
    return found[0]


def _with_header(path: Path, stored: Stored) -> Stored:
    """Adds what an ENVI header beside a TIFF declares, if it describes the TIFF."""
    beside = envi.find_header(path)
    if beside is None:
        return stored
    header = read_header(beside)
    if not header.of_tiff and envi.data_files(beside, envi.DATA_SUFFIXES):
        return stored
    axis = stored.bands_axis or 0
    bands = stored.values.shape[axis] if stored.values.ndim == 3 else 0
    if header.integer("bands", low=1) != bands:
        raise InputError(f"{beside}: found {header.integer('bands')} bands; expected {bands} as in {path.name}")
    centres, units, notes = header.wavelengths(bands)
    coding, applied = header.coding(bands)
    if coding != Coding() and stored.coding != Coding() and coding != stored.coding:
        raise InputError(f"{path}: it and {beside.name} both say how to read its numbers; expected one of them")
    stored.coding = stored.coding if coding == Coding() else coding
    stored.good = header.good_bands(bands)
    if centres is not None:
        stored.centres, stored.units = centres, units
        notes = [*notes, f"wavelengths from {beside.name}"]
    stored.notes += [*applied, *notes]
    return stored


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
