"""Which page of a TIFF is the photo, and which tags declare what its numbers mean.

Source: TIFF 6.0; Adobe's TIFF technical notes 1 to 3; DNG 1.7; GDAL's GTiff driver for GDAL_METADATA and GDAL_NODATA.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import tifffile

MAX_PAGES = 500
SUBFILE_TYPE, OLD_SUBFILE_TYPE, DNG_VERSION, GDAL_METADATA, GDAL_NODATA = 254, 255, 50706, 42112, 42113
REDUCED, MASK = 1, 4
SENSOR_MOSAIC, SENSOR_LINEAR = 32803, 34892
_CHANNELS = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}


class RawPhotoError(Exception):
    """The TIFF is a camera's raw file: its pages are thumbnails and sensor data."""


def photo_page(path: Path, file: tifffile.TiffFile) -> tuple[tifffile.TiffPage, list[str]]:
    """Returns the page of full size among thumbnails, overviews and masks, and notes.

    Raises:
        InputError: there are several.
        RawPhotoError: the file is a camera's raw file.
    """
    if len(file.pages) > MAX_PAGES:
        raise InputError(f"{path}: found {len(file.pages)} pages; expected a photo of one page")
    pages: list[Any] = [file.pages[i] for i in range(len(file.pages))]
    inner: list[Any] = [page for outer in pages[:4] for page in (outer.pages or ())]
    if any(DNG_VERSION in page.tags or _number(page, 262) in (SENSOR_MOSAIC, SENSOR_LINEAR) for page in pages + inner):
        raise RawPhotoError
    full = [page for page in pages if _is_full(page)] or [page for page in inner if _is_full(page)]
    if len(full) > 1:  # a further page, such as a scanner's infrared, is marked as one of several
        full = [page for page in full if not _number(page, SUBFILE_TYPE)] if len(pages) == len(full) else full
    if len(full) != 1:
        found = len(full) if len(full) > 1 else len(pages)
        raise InputError(f"{path}: found {found} pages; expected a photo of one page")
    others = len(pages) - 1
    notes = [f"the full page was read, {others} {'page' if others == 1 else 'pages'} passed over"] if others else []
    return full[0], notes


def channel_order(page: tifffile.TiffPage, colours: int) -> list[int] | None:
    """Returns which samples are red, green and blue by the names that GDAL stores; None if none are named.

    Raises:
        InputError: the samples have names, but not those of red, green and blue.
    """
    text = tag(page, GDAL_METADATA)
    if not isinstance(text, str):
        return None
    names: dict[int, str] = {}
    for attributes, value in re.findall(r"<Item\s([^<>]{0,200})>([^<>]{0,200})<", text):
        role = re.search(r'role="(description|colorinterp)"', attributes)
        number = re.search(r'sample="(\d{1,4})"', attributes)
        if role and number:
            names.setdefault(int(number[1]), value.strip())
    known = {_CHANNELS.get(name.lower()): number for number, name in sorted(names.items(), reverse=True)}
    if {"R", "G", "B"} <= set(known):
        return [known["R"], known["G"], known["B"]]
    if len(names) >= colours > 1:
        raise InputError(f"its samples are named {', '.join(names.values())[:200]}; expected red, green and blue")
    return None


def check_scale(page: tifffile.TiffPage) -> None:
    """Refuses a scale or offset that GDAL stores for the samples.

    Raises:
        InputError: one is declared.
    """
    text = tag(page, GDAL_METADATA)
    for role, plain in (("scale", 1.0), ("offset", 0.0)):
        for value in re.findall(
            rf'role="{role}"[^<>]{{0,100}}>([^<>]{{0,60}})<', text if isinstance(text, str) else ""
        ):
            try:
                unchanged = float(value) == plain
            except ValueError:
                unchanged = False
            if not unchanged:
                raise InputError(f"its GDAL_METADATA declares {role} {value}; expected a photo with codes as they are")


def range_notes(page: tifffile.TiffPage, samples: np.ndarray) -> list[str]:
    """Notes a largest value other than white's, and how many pixels hold the value that GDAL_NODATA calls missing."""
    notes = []
    for code, name in ((281, "MaxSampleValue"), (341, "SMaxSampleValue")):
        value = np.ravel(tag(page, code) if code in page.tags else ())
        white = 1 if samples.dtype.kind == "f" else 2**page.bitspersample - 1
        if value.size and value.dtype.kind in "iuf" and value[0] != white:
            notes.append(f"{name} {value[0]:g} taken as a statistic: white is {white}")
    try:
        missing = float(str(tag(page, GDAL_NODATA)))
    except ValueError:
        return notes
    count = int((samples == missing).all(axis=-1).sum())
    return notes + [f"{count} pixels hold the no-data value {missing:g} and were read as colours"] if count else notes


def tag(page: tifffile.TiffPage, code: int) -> Any:
    """Returns a tag's value, or None."""
    found = page.tags.get(code)
    return None if found is None else found.value


def _number(page: tifffile.TiffPage, code: int) -> int:
    value = tag(page, code)
    return int(value) if isinstance(value, int) else 0


def _is_full(page: tifffile.TiffPage) -> bool:
    return not _number(page, SUBFILE_TYPE) & (REDUCED | MASK) and _number(page, OLD_SUBFILE_TYPE) != 2
