"""Photos that Pillow decodes: JPEG, PNG up to 8 bits, BMP, WebP and AVIF."""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import BoundedFile, check_claim
from m3sr_jax.io.photos.exif import ORIENTATION
from m3sr_jax.io.photos.kinds import readable_format
from m3sr_jax.io.strips import strips

if TYPE_CHECKING:
    from PIL import Image, ImageFile

# 1 gigapixel: 3 GB of 8-bit codes.
MAX_PIXELS = 10**9
# The classes are called directly: `Image.open` refuses large photos and may start other programs for other formats.
_CLASSES = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
}
# Bytes of a PNG's profile or text, decompressed; Pillow's own limit of 1 MiB refuses photos with larger ones.
MAX_TEXT = 2**26
# Nothing, or a TIFF header before a directory of no entries.
_BLANK_EXIF = re.compile(rb"(Exif\0\0)?((II\*\0|MM\0\*).{4}(\0\0.*)?)?", re.DOTALL)


@contextmanager
def open_image(path: Path, format_: str | None = None) -> Iterator[ImageFile.ImageFile]:
    """Opens a photo with Pillow and reads its header; call it inside `m3sr_jax.io.files.reading`.

    Pillow gets an open file because it memory-maps named ones and then scrambles the pixels of rotated greyscale TIFFs.

    Args:
        path: the file.
        format_: its format, if known.

    Raises:
        InputError: the format is another, or the header claims more pixels than the file can hold.
    """
    format_ = format_ or readable_format(path)
    if format_ not in _CLASSES:
        raise InputError(f"{path}: cannot be read as an image: it is {format_}; expected {', '.join(_CLASSES)}")
    name, class_ = _CLASSES[format_]
    module: Any = importlib.import_module(f"PIL.{name}")
    if format_ == "WebP":
        check_pixels(path, _webp_size(path), 4)
    if format_ == "PNG":
        module.MAX_TEXT_CHUNK = max(module.MAX_TEXT_CHUNK, MAX_TEXT)
    with BoundedFile(path) as file, getattr(module, class_)(file) as image:
        check_pixels(path, (image.height, image.width), max(3, len(image.getbands())))
        yield image


def check_pixels(path: Path, size: tuple[int, ...], bytes_per_pixel: int) -> None:
    """Refuses a claimed (height, width) that is larger than the file allows, or than `MAX_PIXELS`.

    Raises:
        InputError: the photo is too large.
    """
    check_claim(path, size, bytes_per_pixel)
    if size[0] * size[1] > MAX_PIXELS:
        found = f"{size[0]}×{size[1]} pixels"
        raise InputError(f"{path}: found {found}; expected at most {MAX_PIXELS // 10**6} megapixels, so crop it")


def pixels(image: ImageFile.ImageFile, mode: str) -> np.ndarray:
    """Decodes all pixels into (H, W, C) codes of 8 bits, converted to a mode of Pillow's a few rows at a time."""
    image.load()
    image.info.pop("transparency", None)  # of a palette's, Pillow would warn
    codes = np.empty((image.height, image.width, {"L": 1, "RGB": 3, "CMYK": 4}[mode]), np.uint8)
    parts = strips(codes.shape)
    for rows in parts:
        box = (0, rows.start, image.width, min(rows.stop, image.height))
        part = image.crop(box) if len(parts) > 1 else image
        codes[rows] = np.asarray(part.convert(mode)).reshape(codes[rows].shape)
    return codes


def exif_of(image: ImageFile.ImageFile, notes: list[str]) -> Image.Exif:
    """Returns a photo's EXIF; empty, with a note, where some program has left one that cannot be read."""
    with suppress(SyntaxError, TypeError, ValueError):  # of bytes, of text in a PNG, of hexadecimal digits
        image.getexif()
    exif = image.getexif()  # what Pillow has read, or nothing
    stored = image.info.get("exif", b"")
    blank = isinstance(stored, bytes) and _BLANK_EXIF.fullmatch(stored)
    if not exif and (not blank or "Raw profile type exif" in image.info):
        notes.append("its EXIF is damaged and was passed over: taken as upright")
    return exif


def orientation_of(image: ImageFile.ImageFile) -> int:
    """Returns the EXIF orientation; without the first test, `getexif` would decode all pixels of a PNG."""
    if not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & set(image.info):
        return 1
    found = exif_of(image, []).get(ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _webp_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of a WebP's canvas from its first chunk: Pillow allocates it when it opens the file."""
    with path.open("rb") as file:
        head = file.read(30).ljust(30, b"\0")
    if head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif head[12:16] == b"VP8L":
        (packed,) = struct.unpack_from("<I", head, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        width, height = (number & 0x3FFF for number in struct.unpack_from("<HH", head, 26))
    return height, width
