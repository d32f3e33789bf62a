"""ENVI files: a text header `.hdr` beside raw numbers.

Source: the published description of the ENVI header format (L3Harris Geospatial, "ENVI Header Files").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import band_rows, check_claim, reading, written_whole

DATA_TYPES = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4"}
# Axes of each interleave (lines, bands, samples by first letter), and their transpose to (lines, samples, bands).
ORDERS = {"bsq": ("bls", (1, 2, 0)), "bil": ("lbs", (0, 2, 1)), "bip": ("lsb", (0, 1, 2))}
DATA_SUFFIXES = (".img", ".dat", ".raw", ".bsq", ".bil", ".bip", "")
NANOMETRES = {"nanometers": 1.0, "nanometres": 1.0, "nm": 1.0, "micrometers": 1e3, "micrometres": 1e3, "um": 1e3}


def read_envi(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the cube of a `.hdr`: BSQ, BIL or BIP, either byte order, with header offset.

    Returns:
        values (H, W, S), divided by the `reflectance scale factor` if there is one, and wavelengths in nm or None.

    Raises:
        InputError: the header lacks a field, has one out of range, or claims more than the data file holds.
    """
    header = _read_header(path)
    extents = {
        key: _integer(path, header, field, low=1)
        for key, field in zip("lsb", ("lines", "samples", "bands"), strict=True)
    }
    kind, interleave = DATA_TYPES.get(header.get("data type", "")), header.get("interleave", "").lower()
    if kind is None or interleave not in ORDERS:
        found = " and ".join(f"{field} {header.get(field, '(none)')}" for field in ("data type", "interleave"))
        raise InputError(f"{path}: found {found}; expected one of {', '.join(DATA_TYPES)} and bsq, bil or bip")
    dtype = np.dtype((">" if header.get("byte order", "0") == "1" else "<") + kind)
    offset = _integer(path, header, "header offset", default="0")
    data_path = _data_file(path)
    letters, order = ORDERS[interleave]
    shape = tuple(extents[letter] for letter in letters)
    with reading(data_path, "ENVI data"):
        check_claim(data_path, shape, dtype.itemsize, compressed=False)
        values = np.fromfile(data_path, dtype, count=int(np.prod(shape)), offset=offset)
    if values.size < np.prod(shape):
        claim = f"{path.name} claims {shape} values after {offset} bytes"
        raise InputError(f"{data_path}: the file is shorter than its header says ({claim}); copy it again")
    cube = values.reshape(shape).transpose(order).astype(dtype.newbyteorder("="))
    if "reflectance scale factor" in header:
        scale = _numbers(path, header["reflectance scale factor"])[0]
        if not 0 < scale < math.inf:
            raise InputError(f"{path}: found reflectance scale factor = {scale:g}; expected a number above 0")
        with np.errstate(all="ignore"):  # infinite values are refused by the caller
            cube = cube / scale
    return cube, _wavelengths(path, header)


@contextmanager
def envi_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes `.hdr` and `.img` side by side: BSQ, little-endian; see `m3sr_jax.io.cubes.cube_writer`."""
    lines, samples, bands = shape
    kind = next(code for code, letter in DATA_TYPES.items() if np.dtype(letter) == dtype)
    centres = ", ".join(f"{centre:.6g}" for centre in wavelengths)
    described = source.encode("ascii", "replace").decode().translate({ord(brace): None for brace in "{}"})
    header = (
        "ENVI\n"
        f"samples = {samples}\nlines = {lines}\nbands = {bands}\n"
        f"header offset = 0\nfile type = ENVI Standard\ndata type = {kind}\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{centres}}}\n"
    )
    if scale is not None:
        header += f"reflectance scale factor = {scale:g}\n"
    if source:
        header += f"description = {{{described}}}\n"
    with written_whole(path) as text, written_whole(path.with_suffix(".img")) as data:
        with data.open("wb") as file:
            yield band_rows(file, shape, dtype)
        text.write_text(header, encoding="ascii")


def _read_header(path: Path) -> dict[str, str]:
    with reading(path, "an ENVI header"):
        text = path.read_text(encoding="latin-1")
    if not text.lstrip().startswith("ENVI"):
        raise InputError(f'{path}: not an ENVI header; expected the first line "ENVI"')
    fields, lines = {}, iter(text.splitlines())
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals:
            continue
        if value.lstrip().startswith("{"):  # a list ends at its closing brace, maybe lines below
            parts = [value]
            while "}" not in parts[-1]:
                following = next(lines, None)
                if following is None:
                    raise InputError(f"{path}: the list of {name.strip()} is not closed; expected }} at its end")
                parts.append(following)
            value = "\n".join(parts).partition("}")[0] + "}"
        fields[name.strip().lower()] = value.strip()
    return fields


def _integer(path: Path, header: dict[str, str], field: str, low: int = 0, default: str | None = None) -> int:
    value = header.get(field, default)
    if value is None or not re.fullmatch(r"\d{1,9}", value) or int(value) < low:
        raise InputError(f"{path}: found {field} = {value or '(none)'}; expected a whole number of at least {low}")
    return int(value)


def _numbers(path: Path, text: str) -> list[float]:
    try:
        return [float(part) for part in text.strip("{} \n").split(",")]
    except ValueError as error:
        raise InputError(f"{path}: found a list that is not numeric ({error}); expected numbers and commas") from error


def _wavelengths(path: Path, header: dict[str, str]) -> np.ndarray | None:
    if "wavelength" not in header:
        return None
    units = header.get("wavelength units", "nm").lower()
    if units not in NANOMETRES:
        raise InputError(f"{path}: found wavelength units = {units}; expected Nanometers or Micrometers")
    return np.array(_numbers(path, header["wavelength"])) * NANOMETRES[units]


def _data_file(path: Path) -> Path:
    for suffix in DATA_SUFFIXES:
        candidate = path.with_suffix(suffix)
        if candidate.is_file():
            return candidate
    suffixes = ", ".join(DATA_SUFFIXES[:-1])
    raise InputError(f"{path}: no data file beside it; expected {path.stem} with {suffixes} or no suffix")
