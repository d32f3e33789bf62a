"""What EXIF, and the same tags of a TIFF, say about orientation and colour.

Source: EXIF 2.32 (JEITA CP-3451), DCF 2.0 for Adobe RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.spaces import (
    ADOBE_GAMMA,
    ADOBE_PRIMARIES,
    D65,
    SAME_XY,
    SRGB_PRIMARIES,
    ColourSpace,
    declared_space,
)

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION, WHITE_POINT, PRIMARIES, TRANSFER = 0x0112, 0x013E, 0x013F, 0x012D
COEFFICIENTS, BLACK_WHITE = 0x0211, 0x0214
_EXIF_IFD, _INTEROP_IFD, _COLOUR_SPACE, _GAMMA, _INTEROP_INDEX = 0x8769, 0xA005, 0xA001, 0xA500, 1
SRGB, ADOBE, UNCALIBRATED = 1, 2, 0xFFFF
BT601 = (0.299, 0.587, 0.114)
FULL_RANGES = ((0, 255, 0, 255, 0, 255), (0, 255, 128, 255, 128, 255), (0, 255, 127, 255, 127, 255))


def exif_space(exif: Image.Exif, notes: list[str]) -> ColourSpace | None:
    """Returns the colour space that EXIF declares; None if it declares none.

    Adobe RGB (1998) is declared by the interoperability index R03 beside an uncalibrated colour space, as DCF says.

    Raises:
        InputError: EXIF declares a space that cannot be applied.
    """
    details = exif.get_ifd(_EXIF_IFD)
    space = details.get(_COLOUR_SPACE)
    interop = exif.get_ifd(_INTEROP_IFD) if _INTEROP_IFD in details else {}
    index = str(interop.get(_INTEROP_INDEX, ""))[:3]
    if TRANSFER in exif:
        raise InputError("its EXIF declares a TransferFunction; convert the photo to sRGB")
    check_ycc_tags(exif.get(COEFFICIENTS), exif.get(BLACK_WHITE), "EXIF")
    if space == ADOBE or (index == "R03" and space != SRGB):
        return ColourSpace("Adobe RGB (1998)", ADOBE_PRIMARIES, ADOBE_GAMMA)
    if space == SRGB:
        return ColourSpace("sRGB")
    gamma, primaries = _numbers(details.get(_GAMMA)), chromaticities(exif.get(WHITE_POINT), exif.get(PRIMARIES))
    if len(gamma) == 1 or primaries is not None:
        return declared_space("EXIF", primaries or SRGB_PRIMARIES, gamma[0] if gamma else None)
    if space == UNCALIBRATED:
        notes.append("EXIF says uncalibrated and there is no profile: taken as sRGB")
    elif space is not None:
        raise InputError(f"its EXIF declares ColorSpace {space} without a profile; convert the photo to sRGB")
    return None


def chromaticities(white: Any, primaries: Any) -> tuple[float, ...] | None:
    """Returns white and primaries from the tags WhitePoint (D65 if missing) and PrimaryChromaticities; None if neither.

    Raises:
        InputError: another white than D65 is declared without primaries.
    """
    colours, centre = _numbers(primaries), _numbers(white)
    if len(colours) == 6:
        return (*(centre if len(centre) == 2 else D65), *colours)
    if len(centre) == 2 and np.abs(np.subtract(centre, D65)).max() > SAME_XY:
        raise InputError(f"it declares the WhitePoint {_listed(centre)} without primaries; convert the photo to sRGB")
    return None


def check_ycc_tags(coefficients: Any, black_white: Any, where: str) -> None:
    """Refuses a YCbCr conversion other than BT.601's of full range, which all decoders use.

    Raises:
        InputError: another conversion is declared.
    """
    weights, range_ = _numbers(coefficients), _numbers(black_white)
    if len(weights) == 3 and np.abs(np.subtract(weights, BT601)).max() > 0.002:
        raise InputError(f"its {where} declares YCbCrCoefficients {_listed(weights)}; expected {_listed(BT601)}")
    if len(range_) == 6 and not any(np.abs(np.subtract(range_, full)).max() < 0.5 for full in FULL_RANGES):
        raise InputError(f"its {where} declares ReferenceBlackWhite {_listed(range_)}; expected the full range")


def _numbers(value: Any) -> tuple[float, ...]:
    """Returns a tag's numbers as floats; none if there are none, or 0/0."""
    values = value if isinstance(value, tuple | list) else () if value is None else (value,)
    try:
        numbers = tuple(float(number) for number in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return ()
    return numbers if np.isfinite(numbers).all() else ()


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
