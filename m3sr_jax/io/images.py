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

    The photo is turned upright by its EXIF orientation. Grey becomes three equal channels, palettes and CMYK become
    RGB, and alpha is dropped, not blended: a transparent pixel keeps its stored colour. All 16 bits are read, except
    from 16-bit grey PNGs with alpha, of which Pillow returns the upper 8.

    Returns:
        code / largest code, in [0, 1].

    Raises:
        InputError: the file is missing, damaged, or not such an image.
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
    """Reads the height and width of the upright photo from its header alone.

    Raises:
        InputError: the file is missing or not an image.
    """
    with reading(Path(path), "an image"), open_image(Path(path)) as image:
        if image.format == "TIFF":  # Pillow reports the upright size
            return image.height, image.width
        # Without the first test, `getexif` would decode all pixels of a PNG.
        rotated = "exif" in image.info and image.getexif().get(ORIENTATION_TAG, 1) in range(5, 9)
        return (image.width, image.height) if rotated else (image.height, image.width)


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Opens a photo and reads its header; call it inside `m3sr_jax.io.files.reading`.

    Only the documented formats are opened: some of Pillow's others start programs. Pillow gets an open file because it
    memory-maps named ones and then scrambles the pixels of rotated greyscale TIFFs.

    Raises:
        InputError: the header claims more pixels than the file can hold.
    """
    from PIL import Image, ImageFile

    with BoundedFile(path) as file, Image.open(file, formats=FORMATS) as image:
        assert isinstance(image, ImageFile.ImageFile)  # every image opened from a file is
        check_claim(path, image.size, max(3, len(image.getbands())))
        yield image


def _codes(path: Path) -> np.ndarray:
    """Reads the stored pixels, turned upright."""
    with open_image(path) as image:
        if image.format == "TIFF":
            pages, bits = getattr(image, "n_frames", 1), image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
            if pages > 1:
                raise InputError(f"{path}: found {pages} pages; expected a photo of one page")
            if len(bits) > 1 and max(bits) > 8:
                return _upright(_sixteen_bit_tiff(path), image.getexif().get(ORIENTATION_TAG, 1))
        if [tile[3] for tile in image.tile] in (["RGB;16B"], ["RGBA;16B"]):
            codes = _sixteen_bit_png(path)
        elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
            codes = np.asarray(image)
            codes = codes.astype(codes.dtype.newbyteorder("="))
        else:
            codes = np.asarray(image.convert("RGB"))
        # Read last: loading the pixels of a TIFF turns them and removes the tag.
        return _upright(codes, image.getexif().get(ORIENTATION_TAG, 1))


def _sixteen_bit_tiff(path: Path) -> np.ndarray:
    """Reads 16-bit colour in full; Pillow returns the upper 8 bits."""
    with open_tiff(path) as file:
        series = file.series[0]
        codes, separate = series.asarray(), not series.axes.endswith("S")  # S: samples of a pixel
    return np.moveaxis(codes, 0, -1) if separate and codes.ndim == 3 else codes


def _sixteen_bit_png(path: Path) -> np.ndarray:
    """Reads 16-bit colour in full, in two passes: Pillow keeps one byte of two, and the byte order says which."""
    halves = []
    for order in "BL":
        with open_image(path) as image:
            image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def _upright(codes: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation, 1 to 8: above 4 rows and columns are swapped; some also reverse an axis."""
    if orientation not in range(2, 9):
        return codes
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    codes = np.swapaxes(codes, 0, 1) if orientation > 4 else codes
    return codes[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
