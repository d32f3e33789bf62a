"""JPEG photos: Adobe's marker, EXIF, ICC profiles, and the further pictures that phones add."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.exif import exif_space
from m3sr_jax.io.photos.photo import GAIN_MAP_NOTE, Colours, Stored
from m3sr_jax.io.photos.pillow import exif_of, open_image, orientation_of, pixels

if TYPE_CHECKING:
    from PIL import ImageFile

_MODES: dict[str, Colours] = {"L": "grey", "RGB": "rgb", "CMYK": "cmyk"}
_PROFILE = b"ICC_PROFILE\0"
_GAIN_MAP = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496", b"HDRGainMap")


def read_jpeg(path: Path) -> Stored:
    """Reads the first picture of a JPEG; Pillow converts YCbCr and YCCK, which Adobe's marker tells apart.

    Adobe's marker also means that inks are stored inverted, which Pillow undoes. Without the marker nothing says
    which way they are stored.

    Raises:
        InputError: CMYK without Adobe's marker, or a declaration that cannot be applied.
    """
    with open_image(path, "JPEG") as image:
        colours = _MODES[image.mode]
        if colours == "cmyk" and "adobe" not in image.info:
            raise InputError("found CMYK without an Adobe marker, which would say how ink is stored; save it as RGB")
        notes = _further_pictures(image)
        icc = image.info.get("icc_profile")
        if icc is None and any(content.startswith(_PROFILE) for _, content in getattr(image, "applist", ())):
            raise InputError("parts of its ICC profile are missing; copy it again or save it with another profile")
        exif = exif_of(image, notes)
        space = None if icc else exif_space(exif, notes)
        orientation = orientation_of(image)
        return Stored(pixels(image, image.mode), colours, "JPEG", 8, orientation, icc, space, notes)


def _further_pictures(image: ImageFile.ImageFile) -> list[str]:
    segments = [content for _, content in getattr(image, "applist", ())]
    if any(mark in content for mark in _GAIN_MAP for content in segments):
        return [GAIN_MAP_NOTE]
    return ["the first of several pictures was read"] if "mpoffset" in image.info else []
