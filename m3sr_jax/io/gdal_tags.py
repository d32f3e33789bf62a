"""What GDAL's metadata declare about a cube: scale, offset, no-data, units, wavelengths, ENVI's fields."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Coding, Stored, combined, unit_divisor
from m3sr_jax.io.envi_header import Header
from m3sr_jax.io.gdal_items import WHOLE_FILE, Item
from m3sr_jax.io.wavelengths import named_centres

# Names of a band's wavelength in GDAL's metadata, lower-case, with the unit that a name implies.
WAVELENGTH_NAMES = {
    "wavelength": "",
    "central_wavelength_um": "um",
    "center_wavelength": "",
    "central_wavelength": "",
    "wavelength_nm": "nm",
    "wavelength_um": "um",
}
UNIT_NAMES = ("wavelength_units", "wavelength_unit", "wavelengthunits", "units")
# Fields of an ENVI header that GDAL keeps for the whole file when it converts one, with blanks for underscores.
ENVI_FIELDS = (
    *("wavelength", "wavelengths", "wavelength units", "bbl", "reflectance scale factor", "data ignore value"),
    *("data gain values", "data offset values", "data reflectance gain values", "data reflectance offset values"),
)


def apply_items(path: Path, stored: Stored, items: Sequence[Item], bands: int, *, own_wavelengths: bool = True) -> None:
    """Adds what GDAL's metadata declare to what a cube's file declares otherwise.

    Args:
        path: the file, for messages.
        stored: the cube, which is changed.
        items: the metadata.
        bands: their number.
        own_wavelengths: False: the user gives others, so that the metadata's do not matter.

    Raises:
        InputError: a declaration is not a number, contradicts another, or cannot be applied.
    """
    fields = {item.name.lower().replace("_", " "): item.text for item in items if item.band == WHOLE_FILE}
    header = Header(path, {name: text for name, text in fields.items() if name in ENVI_FIELDS})
    for coding, notes in (_coding(path, items, bands), header.coding(bands)):
        joined = combined(path, stored.coding, coding)
        stored.notes += notes if joined != stored.coding else []
        stored.coding = joined
    good = [flags for flags in (stored.good, header.good_bands(bands), _good(path, items, bands)) if flags is not None]
    stored.good = np.logical_and.reduce(good) if good else None
    if own_wavelengths and stored.centres is None:
        stored.centres, stored.units, notes = header.wavelengths(bands)
        if stored.centres is None:
            stored.centres, stored.units, notes = _band_centres(path, items, bands)
        stored.notes += notes


def _coding(path: Path, items: Sequence[Item], bands: int) -> tuple[Coding, list[str]]:
    """Returns the meaning of the numbers by scale, offset, no-data value and unit, and notes on what was applied."""
    gain, offset = _per_band(path, items, "scale", bands, 1.0), _per_band(path, items, "offset", bands, 0.0)
    notes = ["GDAL's scale and offset applied"] if set(gain) != {1.0} or set(offset) != {0.0} else []
    units = {item.band: item.text for item in items if item.role == "unittype"}
    divisors = [unit_divisor(units.get(band, "")) for band in range(bands)]
    if len(set(divisors)) > 1:
        several = ", ".join(dict.fromkeys(units.get(band, "none") for band in range(bands)))
        raise InputError(f"{path}: found the units {several[:80]} in GDAL's metadata; expected one for all bands")
    divisor = divisors[0] if divisors else None
    notes += [f"values in {units[0]}, divided by {divisor:g}"] if divisor else []
    declared = [(item.name, _number(path, item.name, item.text)) for item in items if item.role == "nodata"]
    values = {str(value): value for _, value in declared}
    if len(values) > 1:
        raise InputError(f"{path}: found the no-data values {', '.join(values)}; expected one for all bands")
    source = f"{declared[0][0]} = {declared[0][1]:g}" if declared else ""
    notes += [f"{source}: missing"] if declared else []
    return Coding(tuple(values.values()), gain=gain, offset=offset, divisor=divisor, source=source), notes


def _band_centres(path: Path, items: Sequence[Item], bands: int) -> tuple[np.ndarray | None, str, list[str]]:
    """Returns the wavelengths of the bands as stored (None if there are none), their unit, and notes."""
    named: dict[str, dict[int, str]] = defaultdict(dict)
    for name, role, band, text in items:
        named[role if role == "description" else name.lower()][band] = text
    for name, unit in WAVELENGTH_NAMES.items():
        found = set(named[name]) - {WHOLE_FILE}
        if found >= set(range(bands)):
            centres = np.array([_number(path, name, named[name][band]) for band in range(bands)])
            spelled = [named[key][band] for key in UNIT_NAMES for band in (0, WHOLE_FILE) if band in named[key]]
            return centres, unit or (spelled[0] if spelled else ""), ["wavelengths from the bands' metadata"]
        if found:
            raise InputError(f"{path}: found {name} for {len(found)} of {bands} bands; expected one per band")
    by_name = named_centres([named["description"].get(band, "") for band in range(bands)])
    return (None, "", []) if by_name is None else (by_name[0], by_name[1], [by_name[2]])


def _good(path: Path, items: Sequence[Item], bands: int) -> np.ndarray | None:
    """Returns which bands the items `bbl` mark as usable; None if they do not say so of every band."""
    listed = [item for item in items if item.name.lower() == "bbl" and item.band != WHOLE_FILE]
    flags = {item.band: _number(path, item.name, item.text) for item in listed}
    return np.array([flags[band] != 0 for band in range(bands)]) if set(flags) >= set(range(bands)) else None


def _per_band(path: Path, items: Sequence[Item], role: str, bands: int, default: float) -> tuple[float, ...]:
    """Returns the numbers of a role; what the tag and the sidecar both say must agree."""
    found: dict[int, float] = {}
    for item in items:
        if item.role == role:
            number = _number(path, f"GDAL's {role}", item.text)
            if not math.isfinite(number):
                raise InputError(f"{path}: found GDAL's {role} = {item.text}; expected a finite number")
            if found.setdefault(item.band, number) != number:
                raise InputError(f"{path}: {item.name} = {number:g}, but the file says {found[item.band]:g}")
    if not set(found) <= set(range(bands)):
        raise InputError(f"{path}: found GDAL's {role} for band {max(found) + 1}; expected {bands} bands")
    return tuple(found.get(band, default) for band in range(bands)) if found else (default,)


def _number(path: Path, name: str, text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: found {name} = {str(text)[:40]}; expected a number") from error
