"""Photos on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import BoundedFile, check_claim, reading
from m3sr_jax.io.tiff import open_tiff

if TYPE_CHECKING:
    from PIL import ImageFile

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
ORIENTATION_TAG = 0x0112


def read_rgb(path: str | os.PathLike[str]) -> Float32[np.ndarray, "H W 3"]:
    """Reads a photo: JPEG, PNG, BMP or TIFF with 8 or 16 bits.

    Turned upright as its EXIF data say; grey becomes three equal channels, a palette its colours, CMYK is converted,
    and alpha is dropped, not blended: a transparent pixel has the colour that is stored under it. All 16 bits count;
    only of 16-bit grey PNGs with alpha Pillow gives the upper 8.

    Returns:
        code / largest code, in [0, 1].

    Raises:
        InputError: a file that is missing, damaged, or no such image.
    """
    path = Path(path)
    with reading(path, "an image"):
        codes = _codes(path)
    if codes.dtype not in (np.uint8, np.uint16) or codes.ndim not in (2, 3):
        raise InputError(f"{path}: found {codes.dtype} values of shape {codes.shape}; expected an 8- or 16-bit image")
    if codes.ndim == 2:
        codes = codes[..., None]
    codes = codes[..., :3] if codes.shape[-1] >= 3 else np.repeat(codes[..., :1], 3, axis=-1)
    return np.divide(codes, np.float32(np.iinfo(codes.dtype).max), dtype=np.float32, order="C")


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of a photo once it is upright, from its header alone.

    Raises:
        InputError: a file that is missing or no image.
    """
    with reading(Path(path), "an image"), open_image(Path(path)) as image:
        if image.format == "TIFF":  # whose size Pillow gives upright
            return image.height, image.width
        # Asked without need, a PNG would decode all its pixels to find out.
        lying = "exif" in image.info and image.getexif().get(ORIENTATION_TAG, 1) in range(5, 9)
        return (image.width, image.height) if lying else (image.height, image.width)


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Opens a photo's header, to be used within `m3sr_jax.io.files.reading`.

    Of the formats that are told to users alone: some of Pillow's others start programs. From a file, not by name: files
    by name Pillow maps into memory, and then mixes up the pixels of grey TIFFs that lie on their side.

    Raises:
        InputError: a size that the file cannot hold.
    """
    from PIL import Image, ImageFile

    with BoundedFile(path) as file, Image.open(file, formats=FORMATS) as image:
        assert isinstance(image, ImageFile.ImageFile)  # as whatever comes from a file
        check_claim(path, image.size, max(3, len(image.getbands())))
        yield image


def _codes(path: Path) -> np.ndarray:
    """Pixels as stored, turned upright."""
    with open_image(path) as image:
        if image.format == "TIFF":
            pages, bits = getattr(image, "n_frames", 1), image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
            if pages > 1:
                raise InputError(f"{path}: found {pages} pages; expected one photo")
            if len(bits) > 1 and max(bits) > 8:
                return _upright(_sixteen_bit_tiff(path), image.getexif().get(ORIENTATION_TAG, 1))
        if [tile[3] for tile in image.tile] in (["RGB;16B"], ["RGBA;16B"]):
            codes = _sixteen_bit_png(path)
        elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
            codes = np.asarray(image)
            codes = codes.astype(codes.dtype.newbyteorder("="))
        else:
            codes = np.asarray(image.convert("RGB"))
        # Asked last: of a TIFF, loading the pixels turns them and takes the tag away.
        return _upright(codes, image.getexif().get(ORIENTATION_TAG, 1))


def _sixteen_bit_tiff(path: Path) -> np.ndarray:
    """Reads all bits of 16-bit colour, of which Pillow would give the upper 8."""
    with open_tiff(path) as file:
        series = file.series[0]
        codes, separate = series.asarray(), not series.axes.endswith("S")  # S: samples of a pixel
    return np.moveaxis(codes, 0, -1) if separate and codes.ndim == 3 else codes


def _sixteen_bit_png(path: Path) -> np.ndarray:
    """Reads all bits of 16-bit colour, of which Pillow keeps the first byte, or the second if told it is the upper."""
    halves = []
    for order in "BL":
        with open_image(path) as image:
            image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def _upright(codes: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an image by its EXIF orientation, 1 to 8: above 4 rows are columns; the rest says which axes run back."""
    if orientation not in range(2, 9):
        return codes
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    codes = np.swapaxes(codes, 0, 1) if orientation > 4 else codes
    return codes[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
