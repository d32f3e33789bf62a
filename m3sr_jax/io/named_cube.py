"""The cube in a file of named arrays: which array, its wavelengths, and what the file declares about its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.attributes import MISSING_NAMES, coding_of_attributes
from m3sr_jax.io.declared import Stored, unit_divisor
from m3sr_jax.io.entries import NUMBER_KINDS, WAVELENGTH_NAMES, Entry, bands_axis, choose_cube, choose_wavelengths
from m3sr_jax.io.named_arrays import open_arrays
from m3sr_jax.io.wavelengths import BANDS_BY_HAND, MAX_BANDS, MICROMETRES_BELOW, numbers_of_bands, unit_of_light

GOOD_NAMES = ("goodwavelengths", "goodbands", "bbl")


def read_named_cube(path: Path, key: str | None = None, *, values: bool = True, own_wavelengths: bool = True) -> Stored:
    """Reads the cube of a .mat, .npz, .npy, HDF5 or NetCDF-4 file.

    Args:
        path: the file.
        key: which array, see `m3sr_jax.io.entries.choose_cube`.
        own_wavelengths: False: the user gives others, so that the file's do not matter.
        values: False: zeros that take no memory stand in for the cube's numbers.

    Raises:
        InputError: the file is missing or damaged, or the array cannot be told or is no cube of real numbers.
    """
    with open_arrays(path) as entries:
        cube, notes = choose_cube(path, entries, key)
        cube.check()
        numbers = cube.read() if values else np.broadcast_to(np.zeros((), cube.dtype), cube.shape)
        beside = {entry.listed_name: entry for entry in entries.values() if entry.group == cube.group}
        attributes = _declared_beside(path, beside) | dict(cube.attributes)
        coding, applied = coding_of_attributes(path, cube.name, cube.dtype, attributes)
        scale = _scale(path, beside)
        if not coding.scaled and cube.dtype.kind in "iu" and scale:
            coding = replace(coding, divisor=scale)
            applied += [] if scale == np.iinfo(cube.dtype).max else [f"divided by scale = {scale:g}"]
        elif scale not in (None, 1.0):
            applied.append(f"scale = {scale:g} not applied: it divides integers without another scale")
        listed = choose_wavelengths(entries, cube) if own_wavelengths else None
        if listed is not None:
            centres, units = _centres(path, listed, entries)
        else:
            centres, units = _attribute_centres(cube) if own_wavelengths else (None, "")
        if own_wavelengths and centres is None:
            _refuse_unusable(path, entries)
        axis = bands_axis(cube, listed)
        good = _good(path, entries, centres)
    stored = Stored(numbers, coding, axis, centres, units, good, [*notes, *applied])
    _drop_single_axes(stored)
    return stored


def _declared_beside(path: Path, beside: Mapping[str, Entry]) -> dict[str, Any]:
    """Returns what single numbers and text beside the cube declare as its attributes would."""
    found = {}
    for name, entry in beside.items():
        plain = re.sub(r"[^a-z]", "", name)
        if plain in ("scalefactor", "addoffset", *MISSING_NAMES) and entry.numeric and entry.size == 1:
            found[re.split(r"[/.]", entry.name)[-1]] = number = float(entry.read().ravel()[0])
            if plain == "scalefactor" and number > 1:
                expected = "it may multiply or divide; call it scale if it divides"
                raise InputError(f"{path}: found {entry.name} = {number:g}; {expected}")
        elif plain in ("units", "unit") and entry.dtype.kind in "US" and unit_divisor(text := _text(entry)):
            found["units"] = text
    return found


def _text(entry: Entry) -> str:
    value = entry.read().ravel()
    text = value[0] if value.size else ""
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).strip()


def _scale(path: Path, beside: Mapping[str, Entry]) -> float | None:
    """Returns the number `scale` that `m3sr_jax.io.cube_writer.write_cube` stores beside integers."""
    entry = beside.get("scale")
    if entry is None or not entry.numeric or entry.size != 1:
        return None
    scale = float(entry.read().ravel()[0])
    if not 0 < scale < np.inf:
        raise InputError(f"{path}: found scale = {scale:g}; expected a number above 0, by which integers are divided")
    return scale


def _centres(path: Path, listed: Entry, entries: Mapping[str, Entry]) -> tuple[np.ndarray, str]:
    """Returns the wavelengths as stored, and their unit; by convention nm where they are large enough."""
    if listed.size > MAX_BANDS:
        raise InputError(f"{path}: found {listed.size} wavelengths; expected one per band, at most {MAX_BANDS}")
    attributes = {name.lower(): value for name, value in listed.attributes.items()}
    declared = str(attributes.pop("units", attributes.pop("unit", ""))).strip() or _unit_beside(listed, entries)
    coding, _ = coding_of_attributes(path, listed.name, listed.dtype, attributes)
    stored = np.ravel(listed.read()).astype(np.float64)
    centres = (stored * coding.gain + coding.offset) / (coding.divisor or 1.0)
    centres[np.isin(stored, coding.missing)] = np.nan
    implied = next((unit for unit in ("nm", "um") if listed.listed_name.endswith(unit)), "")
    large = np.abs(centres[np.isfinite(centres)]).max(initial=0) >= MICROMETRES_BELOW
    return centres, declared or implied or ("nm" if large and not numbers_of_bands(centres) else "")


def _unit_beside(listed: Entry, entries: Mapping[str, Entry]) -> str:
    """Returns the unit of the wavelengths that a text of the file gives, such as `wavelength_units`; or ""."""
    own = [f"{stem}{unit}" for stem in (listed.listed_name, "wavelength", "wavelengths") for unit in ("units", "unit")]
    texts = [entry for entry in entries.values() if entry.dtype.kind in "US" and entry.group in (listed.group, [])]
    for entry in texts:
        if entry.listed_name in own:
            return _text(entry)
    plain = [_text(entry) for entry in texts if entry.listed_name in ("units", "unit")]
    return next((text for text in plain if unit_of_light(text)), "")


def _attribute_centres(cube: Entry) -> tuple[np.ndarray | None, str]:
    """Returns the wavelengths that an attribute of the cube lists (None if there are none), and their unit."""
    attributes = {re.sub(r"[^a-z0-9]", "", name.lower()): value for name, value in cube.attributes.items()}
    for name in WAVELENGTH_NAMES:
        value = np.ravel(attributes.get(name, ()))
        if value.dtype.kind in NUMBER_KINDS and value.size > 1 and value.size in cube.shape:
            units = attributes.get(f"{name}units", attributes.get("wavelengthunits", ""))
            return value.astype(np.float64), str(units)
    return None, ""


def _refuse_unusable(path: Path, entries: Mapping[str, Entry]) -> None:
    """Refuses wavelengths that are no list of numbers, such as text or centres beside widths."""
    for entry in entries.values():
        if entry.listed_name in ("wavelength", "wavelengths"):
            raise InputError(f"{path}: found {entry.label}; expected a list of numbers: {BANDS_BY_HAND}")


def _good(path: Path, entries: Mapping[str, Entry], centres: np.ndarray | None) -> np.ndarray | None:
    """Returns which bands the file marks as usable; None if it does not say."""
    for entry in entries.values():
        fitting = centres is not None and entry.size == max(entry.shape, default=1) == len(centres)
        if entry.listed_name in GOOD_NAMES and entry.dtype.kind in NUMBER_KINDS + "b" and fitting:
            flags = np.ravel(entry.read())
            if not np.isin(flags, (0, 1)).all():
                raise InputError(f"{path}: found {entry.name} with other numbers than 0 and 1; expected one per band")
            return flags == 1
    return None


def _drop_single_axes(stored: Stored) -> None:
    """Drops axes of length 1 beyond three axes, such as that of a batch of one scene."""
    while stored.values.ndim > 3 and 1 in stored.values.shape:
        axis = stored.values.shape.index(1)
        stored.values = stored.values.squeeze(axis)
        if stored.bands_axis is not None:
            stored.bands_axis = None if stored.bands_axis == axis else stored.bands_axis - (stored.bands_axis > axis)
        stored.notes.append("an axis of length 1 left out")
