"""Reading photos: `read_photo` with what was declared and done, `read_rgb` for the values alone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading
from m3sr_jax.io.photos import bmp, jpeg, jpeg2000, modern, png, raw, tiff
from m3sr_jax.io.photos.colour import finish
from m3sr_jax.io.photos.kinds import misnamed, readable_format
from m3sr_jax.io.photos.photo import Photo, Stored, upright_size
from m3sr_jax.io.photos.pillow import open_image, orientation_of
from m3sr_jax.io.photos.tiff_page import RawPhotoError

_READERS: Mapping[str, Callable[[Path], Stored]] = {
    "JPEG": jpeg.read_jpeg,
    "PNG": png.read_png,
    "TIFF": tiff.read_tiff_photo,
    "BMP": bmp.read_bmp,
    "WebP": modern.read_webp,
    "AVIF": modern.read_avif,
    "HEIC": modern.read_heic,
    "JPEG 2000": jpeg2000.read_jpeg2000,
    "raw": raw.read_raw,
}
_SIZES: Mapping[str, Callable[[Path], tuple[int, int]]] = {
    "PNG": png.png_size,
    "TIFF": tiff.tiff_size,
    "HEIC": modern.heic_size,
    "JPEG 2000": jpeg2000.jpeg2000_size,
    "raw": raw.raw_size,
}


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo: JPEG, PNG, TIFF, BMP, WebP, AVIF, HEIC, JPEG 2000, or a camera's raw file.

    What the file declares about its numbers is applied, or the file is refused: docs/data.md has the table. The photo
    comes upright and in sRGB's primaries: profiles and declared spaces are converted. Grey becomes three equal
    channels; palettes, CMYK and Lab become RGB. Alpha is dropped, not blended: a transparent pixel keeps its colour.

    Raises:
        InputError: the file is missing, damaged, too large, not such an image, or declares what cannot be applied.
    """
    path = Path(path)
    with reading(path, "an image"):
        found = readable_format(path)
    with _naming(path, found), reading(path, "an image"):
        try:
            stored = _READERS[found](path)
        except RawPhotoError:
            found, stored = "raw", raw.read_raw(path)
        photo = finish(stored)
    note = misnamed(path, found)
    return dataclasses.replace(photo, notes=(note, *photo.notes)) if note else photo


def read_rgb(path: str | os.PathLike[str]) -> Float32[np.ndarray, "H W 3"]:
    """Reads the values of a photo in [0, 1]; see `read_photo`, which also tells their encoding.

    Raises:
        InputError: as `read_photo`.
    """
    return read_photo(path).rgb


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads the height and width of the upright photo from its header alone.

    Raises:
        InputError: the file is missing or not an image.
    """
    path = Path(path)
    with reading(path, "an image"):
        found = readable_format(path)
    with _naming(path, found), reading(path, "an image"):
        if found in _SIZES:
            try:
                return _SIZES[found](path)
            except RawPhotoError:
                return raw.raw_size(path)
        with open_image(path, found) as image:
            return upright_size((image.height, image.width), orientation_of(image))


@contextmanager
def _naming(path: Path, found: str) -> Iterator[None]:
    """Puts the file's name before the message of an InputError that lacks it, and its format if the suffix is wrong."""
    try:
        yield
    except InputError as error:
        note, message = misnamed(path, found), str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: {f'is {found}, not {path.suffix}; ' if note else ''}{message}") from error
