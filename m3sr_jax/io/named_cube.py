"""The cube in a file of named arrays: which array, its wavelengths, and what the file declares about its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.attributes import coding_of_attributes
from m3sr_jax.io.declared import Stored
from m3sr_jax.io.entries import Entry, bands_axis, choose_cube, choose_wavelengths, is_list
from m3sr_jax.io.named_arrays import open_arrays
from m3sr_jax.io.wavelengths import BANDS_BY_HAND, MAX_BANDS, MICROMETRES_BELOW, numbers_of_bands

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
        coding, applied = coding_of_attributes(path, cube.name, cube.dtype, cube.attributes)
        if not coding.scaled and cube.dtype.kind in "iu" and (scale := _scale(path, entries)):
            coding = replace(coding, divisor=scale)
            applied += [] if scale == np.iinfo(cube.dtype).max else [f"divided by scale = {scale:g}"]
        listed = choose_wavelengths(entries, cube) if own_wavelengths else None
        centres, units = (None, "") if listed is None else _centres(path, listed)
        if own_wavelengths and listed is None:
            _refuse_unusable(path, entries)
        axis = bands_axis(cube, listed)
        good = _good(path, entries, centres)
    stored = Stored(numbers, coding, axis, centres, units, good, [*notes, *applied])
    _drop_single_axes(stored)
    return stored


def _scale(path: Path, entries: Mapping[str, Entry]) -> float | None:
    """Returns the number `scale` that `m3sr_jax.io.cube_writer.write_cube` stores beside integers."""
    entry = entries.get("scale")
    if entry is None or not entry.numeric or entry.size != 1:
        return None
    scale = float(entry.read().ravel()[0])
    if not 0 < scale < np.inf:
        raise InputError(f"{path}: found scale = {scale:g}; expected a number above 0, by which integers are divided")
    return scale


def _centres(path: Path, listed: Entry) -> tuple[np.ndarray, str]:
    """Returns the wavelengths as stored, and their unit; by convention nm where they are large enough."""
    if listed.size > MAX_BANDS:
        raise InputError(f"{path}: found {listed.size} wavelengths; expected one per band, at most {MAX_BANDS}")
    centres = np.ravel(listed.read()).astype(np.float64)
    attributes = {name.lower(): value for name, value in listed.attributes.items()}
    declared = str(attributes.get("units", attributes.get("unit", ""))).strip()
    implied = next((unit for unit in ("nm", "um") if listed.listed_name.endswith(unit)), "")
    large = np.abs(centres[np.isfinite(centres)]).max(initial=0) >= MICROMETRES_BELOW
    return centres, declared or implied or ("nm" if large and not numbers_of_bands(centres) else "")


def _refuse_unusable(path: Path, entries: Mapping[str, Entry]) -> None:
    """Refuses wavelengths that are no list of numbers, such as text or centres beside widths."""
    for entry in entries.values():
        if entry.listed_name in ("wavelength", "wavelengths"):
            kind = f"{entry.label} of {entry.dtype}"
            raise InputError(f"{path}: found {kind}; expected a list of numbers: {BANDS_BY_HAND}")


def _good(path: Path, entries: Mapping[str, Entry], centres: np.ndarray | None) -> np.ndarray | None:
    """Returns which bands the file marks as usable; None if it does not say."""
    for entry in entries.values():
        if entry.listed_name in GOOD_NAMES and is_list(entry) and centres is not None and entry.size == len(centres):
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
