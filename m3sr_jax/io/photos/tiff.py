"""TIFF photos: every compression that imagecodecs knows, 1 to 32 bits, float, and what the tags declare.

Source: TIFF 6.0, with Adobe's technical notes on ICCLab, float samples and predictors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import check_claim
from m3sr_jax.io.gdal_items import Item, sidecar_items, tag_items
from m3sr_jax.io.photos.colour import as_codes, divide_by_alpha
from m3sr_jax.io.photos.photo import Colours, Stored, largest_code, upright_size
from m3sr_jax.io.photos.pillow import check_pixels, open_image, pixels
from m3sr_jax.io.photos.tiff_page import photo_page
from m3sr_jax.io.photos.tiff_tags import (
    BLACK_IS_ZERO,
    COLOURS,
    ICC_LAB,
    PALETTE,
    WHITE_IS_ZERO,
    YCC,
    channel_order,
    check_tags,
    declared_colours,
    photometric_of,
    range_notes,
    sample_format,
    tag,
    tag_numbers,
)
from m3sr_jax.io.tiff import open_tiff

if TYPE_CHECKING:
    import tifffile

_SAMPLES = {"grey": 1, "rgb": 3, "cmyk": 4, "lab": 3}
_JPEG, PREMULTIPLIED = 7, 1
D50 = (0.3457, 0.3585)


def read_tiff_photo(path: Path) -> Stored:
    """Reads the full-size page of a TIFF; alpha is dropped, after division if colours are premultiplied.

    Raises:
        InputError: there are several such pages, or one of its tags declares what cannot be applied.
        RawPhotoError: it is a camera's raw file.
    """
    with open_tiff(path) as file:
        page, notes = photo_page(path, file)
        items = tag_items(path, page) + sidecar_items(path)
        check_tags(page, items)
        if page.photometric == YCC and page.compression != _JPEG:
            return _read_ycc(path, page, notes)
        _check_size(path, page)
        samples = page.asarray()
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        samples = samples[..., None] if samples.ndim == 2 else samples
        notes += range_notes(page, items, samples)
        colours, samples = _colours(page, samples, items, notes)
        bits, orientation = int(page.bitspersample), int(tag(page, 274) or 1)
        space = None if colours == "lab" else declared_colours(path, page, notes)
        return Stored(samples, colours, "TIFF", bits, orientation, page.iccprofile, space, notes)


def tiff_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the upright photo.

    Raises:
        InputError: as `read_tiff_photo`.
    """
    with open_tiff(path) as file:
        page, _ = photo_page(path, file)
        return upright_size((page.imagelength, page.imagewidth), int(tag(page, 274) or 1))


def _check_size(path: Path, page: tifffile.TiffPage) -> None:
    if page.dtype is None or page.imagedepth != 1 or not page.shape:
        raise InputError(f"found {page.bitspersample}-bit {sample_format(page)} samples; expected a photo")
    check_pixels(path, (page.imagelength, page.imagewidth), page.samplesperpixel * page.dtype.itemsize)
    check_claim(path, page.chunks, page.dtype.itemsize)


def _colours(
    page: tifffile.TiffPage, samples: np.ndarray, items: Sequence[Item], notes: list[str]
) -> tuple[Colours, np.ndarray]:
    """Returns what the samples mean and the samples as colours, without extra ones."""
    photometric, given = photometric_of(page), samples.shape[-1]
    colours, extra = COLOURS[photometric], tuple(page.extrasamples)
    if photometric == BLACK_IS_ZERO and given in (3, 4) and not any(extra[:2]):
        colours, extra = "rgb", extra[2:]
        notes.append("three black-is-zero samples read as red, green and blue")
    count = 1 if photometric == PALETTE else _SAMPLES[colours]
    if given < count or (colours == "grey" and given > 2):
        raise InputError(f"found {given} samples a pixel; expected {count} of {colours}, and alpha")
    order = channel_order(items, count) if colours == "rgb" and count == 3 else None
    if order is not None and max(order) >= given:
        raise InputError("its GDAL_METADATA names samples that it does not have; save it without")
    if order is not None and order != [0, 1, 2]:
        notes.append(f"samples {', '.join(str(at + 1) for at in order)} are named red, green and blue")
    coloured = samples[..., order] if order is not None else samples[..., :count]
    if photometric == PALETTE:
        return colours, _palette(page, coloured[..., 0], notes)
    if colours == "lab":
        return colours, _lab(page, coloured)
    coloured = as_codes(coloured, page.bitspersample)
    if photometric == WHITE_IS_ZERO:
        coloured = (largest_code(coloured.dtype) - coloured).astype(coloured.dtype)
    if PREMULTIPLIED in extra:
        at = given - len(extra) + extra.index(PREMULTIPLIED)
        if colours == "cmyk":
            raise InputError("found CMYK premultiplied by alpha; save it as RGB")
        coloured = divide_by_alpha(coloured, as_codes(samples[..., at : at + 1], page.bitspersample))
        notes.append("premultiplied alpha divided out")
    return colours, coloured


def _palette(page: tifffile.TiffPage, indices: np.ndarray, notes: list[str]) -> np.ndarray:
    colours = page.colormap
    if colours is None or page.bitspersample > 8 or colours.shape != (3, 2**page.bitspersample):
        raise InputError("its palette is damaged; save it as RGB")
    if not (colours & 255).any():  # 8-bit colours, as most programs store them
        colours = (colours >> 8).astype(np.uint8)
    elif colours.max() < 256:  # as libtiff takes them
        colours = colours.astype(np.uint8)
        notes.append("colours of the palette up to 255 taken for 8-bit ones")
    return np.ascontiguousarray(colours.T)[indices.astype(np.uint8, copy=False)]


def _lab(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Returns L* in [0, 100], a* and b*. CIE Lab has signed a* and b*, ICC Lab adds 128 (16 bits: 2¹⁵; L* = 0xFF00)."""
    bits, icc = page.bitspersample, photometric_of(page) == ICC_LAB
    if bits not in (8, 16) or sample_format(page) == "float":
        raise InputError(f"found {bits}-bit {sample_format(page)} Lab; expected 8 or 16 bits")
    white = tag_numbers(page, 318)
    if len(white) == 2 and np.abs(np.subtract(white, D50)).max() > 0.002:
        raise InputError(f"its Lab has the white point {white[0]:g}, {white[1]:g}; expected D50")
    unsigned = samples.view(f"u{bits // 8}") if samples.dtype.isnative else samples.astype(f"u{bits // 8}")
    values = unsigned.astype(np.float32)
    half, unit = float(2 ** (bits - 1)), float(2 ** (bits - 8))
    values[..., 1:] = (
        values[..., 1:] - half if icc else np.where(values[..., 1:] < half, values[..., 1:], values[..., 1:] - 2 * half)
    )
    values[..., 1:] /= unit
    values[..., 0] *= 100 / (0xFF00 if icc and bits == 16 else 2 * half - 1)
    return values


def _read_ycc(path: Path, page: tifffile.TiffPage, notes: list[str]) -> Stored:
    """Reads YCbCr that is not JPEG through Pillow, whose libtiff converts it to RGB and which turns it upright."""
    if page.bitspersample != 8 or page.index != 0:
        raise InputError("found YCbCr of more than 8 bits, or behind other pages, without JPEG; save it as RGB")
    with open_image(path, "TIFF") as image:
        return Stored(
            pixels(image, "RGB"), "rgb", "TIFF", 8, 1, page.iccprofile, declared_colours(path, page, notes), notes
        )
