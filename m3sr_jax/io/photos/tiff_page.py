"""Which page of a TIFF is the photo. Source: TIFF 6.0; DNG 1.7."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.tiff_tags import tag

if TYPE_CHECKING:
    import tifffile

MAX_PAGES = 500
SUBFILE_TYPE, OLD_SUBFILE_TYPE, DNG_VERSION = 254, 255, 50706
REDUCED, MASK = 1, 4
SENSOR_MOSAIC, SENSOR_LINEAR = 32803, 34892


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
    # A further page, such as a scanner's infrared, is marked as one of several.
    full = [page for page in full if not _number(page, SUBFILE_TYPE)] or full
    if len(full) != 1:
        found = len(full) if len(full) > 1 else len(pages)
        raise InputError(f"{path}: found {found} pages; expected a photo of one page")
    others = len(pages) - 1
    notes = [f"the full page was read, {others} {'page' if others == 1 else 'pages'} passed over"] if others else []
    return full[0], notes


def _number(page: tifffile.TiffPage, code: int) -> int:
    value = tag(page, code)
    return int(value) if isinstance(value, int) else 0


def _is_full(page: tifffile.TiffPage) -> bool:
    return not _number(page, SUBFILE_TYPE) & (REDUCED | MASK) and _number(page, OLD_SUBFILE_TYPE) != 2
