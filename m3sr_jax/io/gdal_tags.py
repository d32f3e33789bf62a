"""What the private tags of TIFF files declare about a cube: GDAL's metadata and nodata, ImageJ's calibration.

Source: GDAL's documentation of the GTiff driver (GDAL_METADATA, tag 42112; GDAL_NODATA, tag 42113).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import PERCENT, Coding
from m3sr_jax.io.wavelengths import named_centres

GDAL_METADATA, GDAL_NODATA = 42112, 42113
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


def coding_of_tags(
    path: Path, page: Any, described: Mapping[str, Any], imagej: Mapping[str, Any], bands: int
) -> tuple[Coding, list[str]]:
    """Returns the meaning of a TIFF's numbers: GDAL's scale, offset and nodata, our `scale`, ImageJ's calibration.

    Args:
        path: the file, for messages.
        page: the first page.
        described: what `m3sr_jax.io.tiff.tiff_writer` wrote into the description.
        imagej: the fields of ImageJ's description.
        bands: their number.

    Returns:
        The coding, and notes on what was applied.

    Raises:
        InputError: a declaration is not a number or cannot be applied.
    """
    items, notes = _items(path, page), []
    gain = _per_band(path, items, "scale", bands, 1.0)
    offset = _per_band(path, items, "offset", bands, 0.0)
    if set(gain) != {1.0} or set(offset) != {0.0}:
        notes.append("GDAL's scale and offset applied")
    if page.dtype is not None and page.dtype.kind == "u" and page.bitspersample < 8 * page.dtype.itemsize:
        divisor = 2.0**page.bitspersample - 1  # such as 12 bits in 16
    else:
        divisor = None
    units = {text.strip().lower() for name, role, _, text in items if role == "unittype"}
    divisor = _number(path, "scale", described["scale"]) if "scale" in described else divisor
    if units and units <= set(PERCENT):
        divisor, notes = 100.0, [*notes, "values in percent, divided by 100"]
    if imagej.get("cf") is not None or "c1" in imagej:
        raise InputError(f"{path}: found an ImageJ calibration function (cf), which cannot be applied; save it without")
    missing, source = (), ""
    if (tag := page.tags.get(GDAL_NODATA)) is not None:
        value = _number(path, "GDAL_NODATA", str(tag.value).strip("\0 "))
        missing, source = (value,), f"GDAL_NODATA = {value:g}"
        notes.append(f"{source}: missing")
    return Coding(missing, gain=gain, offset=offset, divisor=divisor, source=source), notes


def band_centres(
    path: Path, page: Any, described: Mapping[str, Any], bands: int
) -> tuple[np.ndarray | None, str, list[str]]:
    """Returns the bands' wavelengths as stored (None if there are none for every band), their unit, and notes."""
    if "wavelengths" in described:
        return np.array(described["wavelengths"], np.float64).ravel(), "nm", []
    named: dict[str, dict[int, str]] = defaultdict(dict)
    for name, _, band, text in _items(path, page):
        named[name.lower()][band] = text
    for name, unit in WAVELENGTH_NAMES.items():
        if set(named[name]) >= set(range(bands)):
            centres = np.array([_number(path, name, named[name][band]) for band in range(bands)])
            spelled = [named[key][band] for key in UNIT_NAMES for band in (0, -1) if band in named[key]]
            return centres, unit or (spelled[0] if spelled else ""), ["wavelengths from the bands' metadata"]
    found = named_centres([named["description"].get(band, "") for band in range(bands)])
    return (None, "", []) if found is None else (found[0], "nm", [found[1]])


def _items(path: Path, page: Any) -> list[tuple[str, str, int, str]]:
    """Returns name, role, band (-1 for the whole file) and text of the items of GDAL's metadata."""
    from xml.etree import ElementTree

    tag = page.tags.get(GDAL_METADATA)
    text = "" if tag is None else str(tag.value).strip("\0 \n")
    if not text:
        return []
    if "<!" in text:  # entities could expand without end
        raise InputError(f"{path}: found GDAL_METADATA with a document type or comment; expected plain items")
    try:
        items = list(ElementTree.fromstring(text))
        return [
            (item.get("name", ""), item.get("role", ""), int(item.get("sample", -1)), item.text or "") for item in items
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: found GDAL_METADATA that is not valid XML ({error}); expected items") from error


def _per_band(
    path: Path, items: list[tuple[str, str, int, str]], role: str, bands: int, default: float
) -> tuple[float, ...]:
    found = {band: _number(path, f"GDAL's {role}", text) for _, of, band, text in items if of == role}
    if not found:
        return (default,)
    if not set(found) <= set(range(bands)):
        raise InputError(f"{path}: found GDAL's {role} for band {max(found) + 1}; expected {bands} bands")
    return tuple(found.get(band, default) for band in range(bands))


def _number(path: Path, name: str, text: Any) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: found {name} = {str(text)[:40]}; expected a number") from error
    if name != "GDAL_NODATA" and not math.isfinite(value):
        raise InputError(f"{path}: found {name} = {value}; expected a finite number")
    return value
