"""RGB colour spaces that files declare by numbers rather than by a profile, and their conversion to sRGB.

A space has primaries and a white point in CIE xy, and a transfer curve from samples to light. Values are decoded,
multiplied by M = sRGB⁻¹ · adaptation · space (Bradford's adaptation to D65), clipped to [0, 1] and, unless the space is
linear, encoded with sRGB's curve.

Source: ITU-T H.273 (code points), IEC 61966-2-1 (sRGB), the PNG, TIFF and EXIF specifications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m3sr_jax.errors import InputError

# White, red, green and blue in CIE xy.
Chromaticities = tuple[float, ...]
D65 = (0.3127, 0.3290)
SRGB_PRIMARIES: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_PRIMARIES: Chromaticities = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# Chromaticities this close to sRGB's are sRGB's, rounded; so is a gamma this close to a nominal one.
SAME_XY = 0.002
SAME_GAMMA = 0.005

_CICP_PRIMARIES: dict[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", SRGB_PRIMARIES),
    2: ("unspecified", SRGB_PRIMARIES),
    5: ("BT.601 625", (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601 525", (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    7: ("SMPTE 240M", (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    9: ("BT.2020", (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    12: ("Display P3", (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
}
_CICP_GAMMA = {2: None, 4: 2.2, 5: 2.8, 8: 1.0, 13: None}
_VIDEO_CURVES = (1, 6, 14, 15)
HDR_CURVES = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class ColourSpace:
    """A space declared by numbers.

    Attributes:
        name: for notes.
        primaries: white, red, green and blue, as xy pairs.
        gamma: light = sample^gamma; None is sRGB's curve, 1 means samples proportional to light.
        curve: replaces gamma by a function from samples to light.
    """

    name: str
    primaries: Chromaticities = SRGB_PRIMARIES
    gamma: float | None = None
    curve: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def linear(self) -> bool:
        """Whether samples are proportional to light."""
        return self.curve is None and self.gamma is not None and abs(self.gamma - 1) <= SAME_GAMMA

    @property
    def same_primaries(self) -> bool:
        """Whether the primaries are sRGB's."""
        return bool(np.abs(np.subtract(self.primaries, SRGB_PRIMARIES)).max() <= SAME_XY)

    @property
    def unchanged(self) -> bool:
        """Whether samples need no conversion, be they sRGB or linear."""
        return self.same_primaries and self.curve is None and (self.gamma is None or self.linear)

    def convert(self, values: np.ndarray) -> np.ndarray:
        """Converts (…, 3) samples in [0, 1] to sRGB, or to linear values in sRGB's primaries; not clipped."""
        if self.curve is not None:
            light = self.curve(values)
        elif self.gamma is None:
            light = srgb_decode(values)
        else:
            light = values**self.gamma
        if not self.same_primaries:
            light = light @ self._matrix().T
        return light if self.linear else srgb_encode(light)

    def _matrix(self) -> np.ndarray:
        return np.linalg.inv(_to_xyz(SRGB_PRIMARIES)) @ _adaptation(self.primaries) @ _to_xyz(self.primaries)


def srgb_decode(values: np.ndarray) -> np.ndarray:
    """Returns light for sRGB-encoded values in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_encode(light: np.ndarray) -> np.ndarray:
    """Returns sRGB-encoded values; below 0 the curve is continued by its line."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def declared_space(name: str, primaries: Chromaticities, gamma: float | None) -> ColourSpace:
    """Checks numbers from a file and returns their space; a gamma of 2.2 with sRGB's primaries means sRGB.

    Raises:
        InputError: the primaries are no triangle, or the gamma is out of range.
    """
    try:
        degenerate = not np.isfinite(np.linalg.inv(_to_xyz(primaries))).all()
    except np.linalg.LinAlgError:
        degenerate = True
    if degenerate or not all(-0.5 < value < 1.5 for value in primaries) or primaries[1] <= 0:
        raise InputError(f"its {name} declares impossible primaries {', '.join(f'{xy:g}' for xy in primaries)}")
    if gamma is not None and not 0.1 <= gamma <= 10:
        raise InputError(f"its {name} declares gamma {gamma:g}; expected 0.1 to 10")
    space = ColourSpace(name, primaries, gamma)
    usual = gamma is not None and abs(gamma - 2.2) <= SAME_GAMMA * 2.2
    return ColourSpace(name) if space.same_primaries and usual else space


def cicp_space(primaries: int, transfer: int, where: str, notes: list[str]) -> ColourSpace:
    """Returns the space of H.273 code points ("cICP" in PNG, "nclx" in AVIF and HEIC).

    Raises:
        InputError: an HDR curve, or a code point that is not supported; the message names it.
    """
    if transfer in HDR_CURVES:
        raise InputError(f"its {where} declares the HDR curve {HDR_CURVES[transfer]}; save the photo as sRGB (SDR)")
    if primaries not in _CICP_PRIMARIES:
        raise InputError(f"its {where} declares colour primaries {primaries} of H.273; convert the photo to sRGB")
    if transfer not in _CICP_GAMMA and transfer not in _VIDEO_CURVES:
        raise InputError(f"its {where} declares transfer curve {transfer} of H.273; convert the photo to sRGB")
    if transfer in _VIDEO_CURVES:
        notes.append("video's transfer curve (BT.709) taken as sRGB's")
    name, chromaticities = _CICP_PRIMARIES[primaries]
    name = "sRGB" if (primaries, transfer) == (1, 13) else name
    return ColourSpace(name, chromaticities, _CICP_GAMMA.get(transfer))


def _to_xyz(primaries: Chromaticities) -> np.ndarray:
    """Returns the matrix from linear RGB to XYZ with Y = 1 for white."""
    pairs = np.reshape(primaries, (4, 2))
    white, *colours = (np.array([x, y, 1 - x - y]) / (y or 1e-9) for x, y in pairs)
    columns = np.stack(colours, axis=1)
    return columns * np.linalg.solve(columns, white)


def _adaptation(primaries: Chromaticities) -> np.ndarray:
    """Returns Bradford's adaptation from the space's white to D65."""
    source, target = (_BRADFORD @ (np.array([x, y, 1 - x - y]) / y) for x, y in (primaries[:2], D65))
    return np.linalg.inv(_BRADFORD) @ np.diag(target / source) @ _BRADFORD
