"""From stored samples to an upright RGB photo, a few rows at a time: profiles, spaces, inks, Lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.photo import TURNED_NOTE, Encoding, Photo, Stored, largest_code, unit_range, upright
from m3sr_jax.io.photos.profile import check_profile, profile_converter, profile_name
from m3sr_jax.io.photos.spaces import ColourSpace, srgb_encode
from m3sr_jax.io.strips import strips

# Floating-point photos may overshoot [0, 1] by this much; the values are clipped.
OVERSHOOT = 1e-3
# Rounding of a converter: a colour this far outside [0, 1] is not reported as clipped.
OUTSIDE = 2e-3
D50 = np.array([0.96422, 1.0, 0.82521])
# XYZ of D50, as ICC's Lab has it, to linear sRGB (Bradford): http://www.brucelindbloom.com, RGB/XYZ matrices.
_D50_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def finish(stored: Stored) -> Photo:
    """Converts the samples to RGB codes and turns them upright.

    Raises:
        InputError: a declared profile or space cannot be applied.
    """
    notes, encoding, name = list(stored.notes), "srgb", None
    if stored.icc is not None and stored.colours == "lab":
        check_profile(stored.icc, "lab")
    if stored.icc is not None and stored.colours != "lab":
        name = profile_name(stored.icc)
        convert = profile_converter(stored.icc, stored.colours)
        if convert is not None:
            notes.append(f"{name} converted to sRGB")
    elif stored.space is not None and stored.colours in ("grey", "rgb"):
        name = stored.space.name
        convert, encoding = _by_space(stored.space, notes)
    else:
        convert = None
    if convert is None and stored.colours in _PLAIN:
        convert = _PLAIN[stored.colours]
        notes.append(_PLAIN_NOTES[stored.colours])
    codes = _as_rgb(stored.samples) if convert is None else _converted(stored.samples, convert, notes)
    if stored.orientation in range(2, 9):
        codes = upright(codes, stored.orientation)
        notes.append(TURNED_NOTE)
    codes = np.ascontiguousarray(codes)
    return Photo(codes, encoding, stored.format, stored.bits, name, tuple(notes))


def divide_by_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Undoes premultiplication: colour / alpha, at most white; 0 where alpha is 0.

    Args:
        colours: (H, W, C) codes or values.
        alpha: (H, W, 1) of the same type.
    """
    white = largest_code(colours.dtype)
    divided = np.empty_like(colours)
    for rows in strips(colours.shape):
        quotient = colours[rows].astype(np.float64) * white / np.maximum(alpha[rows], np.finfo(np.float32).tiny)
        quotient = np.minimum(np.where(alpha[rows] > 0, quotient, 0), white)
        divided[rows] = np.rint(quotient) if colours.dtype.kind == "u" else quotient
    return divided


def as_codes(samples: np.ndarray, bits: int) -> np.ndarray:
    """Returns samples of any number of bits as uint8, uint16, or float32 in [0, 1].

    Raises:
        InputError: floating-point samples lie outside [0, 1].
    """
    if samples.dtype.kind == "f":
        low, high = float(samples.min()), float(samples.max())
        if not -OVERSHOOT <= low <= high <= 1 + OVERSHOOT:
            raise InputError(f"found {samples.dtype} values from {low:g} to {high:g}; expected [0, 1]")
        return np.clip(samples.astype(np.float32), 0, 1)
    largest = 2**bits - 1
    if samples.dtype in (np.uint8, np.uint16) and largest == np.iinfo(samples.dtype).max:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    dtype: Any = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.float32
    codes = np.empty(samples.shape, dtype)
    for rows in strips(samples.shape):
        values = samples[rows].astype(np.float64) * (largest_code(codes.dtype) / largest)
        codes[rows] = np.rint(values) if codes.dtype.kind == "u" else values
    return codes


def _by_space(space: ColourSpace, notes: list[str]) -> tuple[Callable[[np.ndarray], np.ndarray] | None, Encoding]:
    encoding: Encoding = "linear" if space.linear else "srgb"
    target = "linear values of sRGB's primaries" if space.linear else "sRGB"
    if space.unchanged:
        if space.linear:
            notes.append(f"linear, as its {space.name} declares")
        return None, encoding
    notes.append(f"{space.name} converted to {target}")
    return lambda values: space.convert(values if values.shape[-1] == 3 else np.repeat(values, 3, axis=-1)), encoding


def _as_rgb(samples: np.ndarray) -> np.ndarray:
    return samples if samples.shape[-1] == 3 else np.repeat(samples, 3, axis=-1)


def _converted(samples: np.ndarray, convert: Callable[[np.ndarray], np.ndarray], notes: list[str]) -> np.ndarray:
    """Converts strip by strip; integers become uint16 codes, 8-bit CMYK without a profile 8-bit ones."""
    plain_bytes = convert is _mixed_inks and samples.dtype == np.uint8
    dtype = np.float32 if samples.dtype == np.float32 and convert is not _from_lab else np.uint16
    codes = np.empty((*samples.shape[:2], 3), np.uint8 if plain_bytes else dtype)
    outside = 0
    for rows in strips(samples.shape):
        values = convert(unit_range(samples[rows]) if samples.dtype.kind == "u" else samples[rows])
        if not np.isfinite(values).all():
            raise InputError("its colour profile gives values that are not finite; convert the photo to sRGB")
        outside += int(((values < -OUTSIDE) | (values > 1 + OUTSIDE)).any(axis=-1).sum())
        values = np.clip(values, 0, 1)
        codes[rows] = np.rint(values * largest_code(codes.dtype)) if codes.dtype.kind == "u" else values
    if outside:
        notes.append(
            f"{outside / (samples.shape[0] * samples.shape[1]):.2%} of the pixels lie outside sRGB and were clipped"
        )
    return codes


def _mixed_inks(inks: np.ndarray) -> np.ndarray:
    """Returns (1 − C)(1 − K), … of (…, 4) inks."""
    paper = 1 - inks.astype(np.float64)
    return paper[..., :3] * paper[..., 3:]


def _from_lab(lab: np.ndarray) -> np.ndarray:
    """Returns sRGB-encoded values of L* a* b* under D50. Source: CIE 15; the ICC's adaptation to D65."""
    light, a, b = np.moveaxis(lab.astype(np.float64), -1, 0)
    y = (light + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return srgb_encode(xyz @ _D50_TO_SRGB.T)


_PLAIN = {"cmyk": _mixed_inks, "lab": _from_lab}
_PLAIN_NOTES = {
    "cmyk": "CMYK without a profile mixed as (1 - ink)(1 - black)",
    "lab": "CIE L*a*b* (D50) converted to sRGB",
}
