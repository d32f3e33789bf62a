"""ICC profiles: conversion to sRGB by littleCMS, perceptual intent, in float32."""

from __future__ import annotations

import functools
import io
import re
import struct
from collections.abc import Callable

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.spaces import HDR_CURVES

HEADER = 132  # bytes before the table of tags, its length included
SAMPLES = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4, b"Lab ": 3}
USABLE_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
PERCEPTUAL = 0
# A profile that moves no colour of a 9×9×9 grid by more than half an 8-bit code is sRGB itself.
SAME = 0.5 / 255
_HDR_NAME = re.compile(r"\b(PQ|HLG|ST ?2084)\b|2100[_ ](PQ|HLG)")


def profile_name(icc: bytes) -> str:
    """Returns the description that a profile gives of itself, as one short line."""
    from PIL import ImageCms

    try:
        text = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    except (OSError, ImageCms.PyCMSError):
        text = ""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())[:80] or "unnamed profile"


def check_profile(icc: bytes, colours: str) -> int:
    """Checks that littleCMS may apply a profile to an image.

    Returns:
        how many samples a pixel has in the profile's space: 1, 3 or 4.

    Raises:
        InputError: the profile is damaged, of another kind or other colours, or of an HDR curve.
    """
    if len(icc) < HEADER or icc[36:40] != b"acsp":
        raise InputError("its ICC profile is damaged; save the photo with another one")
    kind, space = icc[12:16], icc[16:20]
    name = profile_name(icc)
    samples = SAMPLES.get(space)
    if (kind not in USABLE_CLASSES and colours != "lab") or samples is None:
        raise InputError(f'its ICC profile "{name}" is of class {_shown(kind)} for {_shown(space)}; convert it to sRGB')
    fits = {"grey": (b"GRAY", b"RGB "), "rgb": (b"RGB ",), "cmyk": (b"CMYK",), "lab": (b"Lab ",)}[colours]
    if space not in fits:
        raise InputError(
            f'its ICC profile "{name}" is for {_shown(space)}, its samples are {colours}; convert it to sRGB'
        )
    if match := _HDR_NAME.search(name):
        raise InputError(f'its ICC profile "{name}" has the HDR curve {match[0]}; save the photo as sRGB (SDR)')
    curve = _cicp_curve(icc)
    if curve in HDR_CURVES:
        raise InputError(
            f'its ICC profile "{name}" has the HDR curve {HDR_CURVES[curve]}; save the photo as sRGB (SDR)'
        )
    return samples


def profile_converter(icc: bytes, colours: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns a function from (h, W, C) float32 samples in [0, 1] to sRGB-encoded (h, W, 3), not clipped.

    Args:
        icc: the profile.
        colours: what the samples are: "grey", "rgb" or "cmyk" (0: no ink).

    Returns:
        the function; None if the profile is sRGB itself.

    Raises:
        InputError: littleCMS cannot use the profile.
    """
    samples = check_profile(icc, colours)
    converter = functools.partial(_convert, icc, samples)
    return None if _is_srgb(icc, samples) else converter


def _convert(icc: bytes, samples: int, values: np.ndarray) -> np.ndarray:
    import imagecodecs

    if samples == 3 and values.shape[-1] == 1:  # grey samples of an RGB profile: R = G = B
        values = np.repeat(values, 3, axis=-1)
    scale = np.float32(100) if samples == 4 else np.float32(1)  # littleCMS has inks in percent
    given = np.ascontiguousarray(values[..., 0] if samples == 1 else values * scale, np.float32)
    try:
        return imagecodecs.cms_transform(
            given,
            icc,
            _srgb(),
            colorspace={1: "gray", 3: "rgb", 4: "cmyk"}[samples],
            outcolorspace="rgb",
            outdtype="float32",
            intent=PERCEPTUAL,
        ).reshape(*values.shape[:-1], 3)
    except (imagecodecs.CmsError, ValueError) as error:
        raise InputError(
            f'its ICC profile "{profile_name(icc)}" cannot be applied; convert the photo to sRGB'
        ) from error


@functools.lru_cache(maxsize=16)
def _is_srgb(icc: bytes, samples: int) -> bool:
    if samples == 4:
        return False
    steps = np.linspace(0, 1, 9, dtype=np.float32)
    grid = np.stack(np.meshgrid(*[steps] * samples, indexing="ij"), axis=-1).reshape(1, -1, samples)
    found = _convert(icc, samples, grid)
    return bool(np.abs(found - grid).max() <= SAME)


@functools.cache
def _srgb() -> bytes:
    import imagecodecs

    return imagecodecs.cms_profile("srgb")


def _cicp_curve(icc: bytes) -> int | None:
    """Returns the transfer curve of a profile's "cicp" tag."""
    (count,) = struct.unpack_from(">I", icc, 128)
    for start in range(HEADER, min(HEADER + 12 * count, len(icc) - 11), 12):
        name, offset, size = struct.unpack_from(">4sII", icc, start)
        if name == b"cicp" and size >= 12 and offset + 12 <= len(icc):
            return icc[offset + 9]
    return None


def _shown(signature: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in signature.decode("latin-1")).strip()
