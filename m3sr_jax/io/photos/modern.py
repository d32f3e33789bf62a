"""WebP, AVIF and HEIC photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.boxes import Item, primary_item
from m3sr_jax.io.photos.colour import divide_by_alpha
from m3sr_jax.io.photos.exif import exif_space
from m3sr_jax.io.photos.photo import GAIN_MAP_NOTE, TURNED_NOTE, Stored
from m3sr_jax.io.photos.pillow import check_pixels, exif_of, open_image, orientation_of, pixels
from m3sr_jax.io.photos.spaces import HDR_CURVES, ColourSpace, cicp_space


def read_webp(path: Path) -> Stored:
    """Reads a still WebP; alpha is dropped.

    Raises:
        InputError: it is an animation, or declares colours that cannot be applied.
    """
    with open_image(path, "WebP") as image:
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"found an animation of {image.n_frames} frames; expected one photo")  # type: ignore[attr-defined]
        notes: list[str] = []
        icc = image.info.get("icc_profile")
        exif = exif_of(image, notes)
        space = None if icc else exif_space(exif, notes)
        return Stored(pixels(image, "RGB"), "rgb", "WebP", 8, orientation_of(image), icc, space, notes)


def read_avif(path: Path) -> Stored:
    """Reads a still AVIF; more than 8 bits become 8. Rotation is that of the file's own properties.

    Raises:
        InputError: it is an animation, declares no colours, or some that cannot be applied.
    """
    item = _item(path)
    with open_image(path, "AVIF") as image:
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"found an animation of {image.n_frames} frames; expected one photo")  # type: ignore[attr-defined]
        bits, notes = item.bits or 8, [GAIN_MAP_NOTE] if item.gain_map else []
        if bits > 8:
            notes.append(f"{bits} bits read as 8")
        if item.cropped:
            raise InputError("its clap property declares a crop, which is not applied; save it cropped")
        icc, space = item.icc, _declared(item, notes)
        return Stored(pixels(image, "RGB"), "rgb", "AVIF", bits, orientation_of(image), icc, space, notes)


def read_heic(path: Path) -> Stored:
    """Reads the primary image of a HEIC, upright as libheif gives it, with all its bits.

    Raises:
        InputError: pillow-heif is missing, or the file declares colours that cannot be applied.
    """
    item = _item(path)
    heif = _opened(path)
    info, notes = heif.info, []
    icc, space = info.get("icc_profile") or item.icc, _declared(item, notes)
    if item.gain_map or any("gainmap" in str(kind).lower() for kind in info.get("aux", ())):
        notes.append(GAIN_MAP_NOTE)
    width, height = heif.size  # as the header says: decoding replaces it by the size of the pixels
    samples = np.array(heif)  # a copy: the pixels are freed with `heif`
    if samples.shape[:2] != (height, width):
        found = f"{samples.shape[0]}×{samples.shape[1]} pixels"
        raise InputError(f"found {found}; its header says {height}×{width}; copy it again")
    if heif.premultiplied_alpha:
        samples = divide_by_alpha(samples[..., :3], samples[..., 3:])
        notes.append("premultiplied alpha divided out")
    samples = samples[..., None] if samples.ndim == 2 else samples[..., :3]
    if item.turned:
        notes.append(TURNED_NOTE)
    colours = "grey" if samples.shape[-1] == 1 else "rgb"
    return Stored(samples, colours, "HEIC", int(info.get("bit_depth", 8)), 1, icc, space, notes)


def heic_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the upright photo from the header alone."""
    _item(path)
    width, height = _opened(path).size
    return height, width


def _item(path: Path) -> Item:
    item = primary_item(path.read_bytes())
    for size in item.sizes:
        if not all(size):
            raise InputError(f"its header says {size[0]}×{size[1]} pixels; copy it again")
        check_pixels(path, size, 3)
    return item


def _declared(item: Item, notes: list[str]) -> ColourSpace | None:
    """Returns the space of the nclx property; without one it is sRGB (MIAF, ISO/IEC 23000-22).

    A profile precedes the property, but not if that has an HDR curve.
    """
    if item.nclx is None or (item.icc and item.nclx[1] not in HDR_CURVES):
        return None
    return cicp_space(item.nclx[0], item.nclx[1], "nclx property", notes)


def _opened(path: Path) -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        advice = "reading it takes pillow-heif: pip install 'm3sr-jax[heif]', or save it as PNG or TIFF"
        raise InputError(f"is HEIC; {advice}") from error
    return pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
