"""One line on how far to trust a prediction: what in the photo limits it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from m3sr_jax.io.encoding import converted
from m3sr_jax.io.files import reading
from m3sr_jax.io.photos.photo import Photo, unit_range
from m3sr_jax.io.photos.pillow import open_image

SAMPLED_SIDE = 512  # pixels a side that the shares come from; a coarse grid of a larger photo
CLIPPED, DARK, GREY = 254 / 255, 0.05, 0.03
# Errors of white balance above this change the colours visibly; a tenth costs the default model 3 dB on CAVE.
BALANCE = 0.1
NORM = 6  # of the shades of grey: between the mean (1) and the brightest pixel (infinity)
# Mean of the luminance table of JPEG's Annex K, which quality 50 uses as it is.
_STANDARD_MEAN = 57.625


@dataclasses.dataclass(frozen=True)
class Trust:
    """What limits the prediction of a photo.

    Attributes:
        red: estimate of the white's red over its green; 1 where white balance is right.
        blue: the same for blue.
        clipped: share of pixels with a channel at white, whose colour is lost.
        dark: share of pixels below 5 % of white, where noise and rounding dominate.
        grey: whether nearly all pixels are grey, so that colour tells little.
        jpeg_quality: estimated from the file's tables, None for other formats.
        profile: the colour space that the file states, None if it was assumed to be sRGB.
    """

    red: float
    blue: float
    clipped: float
    dark: float
    grey: bool
    jpeg_quality: int | None
    profile: str | None

    def line(self) -> str:
        """Returns the line that `m3sr predict` prints."""
        off = max(abs(self.red - 1), abs(self.blue - 1)) > BALANCE
        parts = [
            f"white R/G {self.red:.2f}, B/G {self.blue:.2f}{' (white balance may be off)' if off else ''}",
            f"{self.clipped:.1%} clipped",
            f"{self.dark:.1%} dark",
        ]
        parts += [] if self.jpeg_quality is None else [f"JPEG quality about {self.jpeg_quality}"]
        parts += ["nearly grey: many spectra fit"] if self.grey else []
        parts.append(f"profile {self.profile}" if self.profile else "no profile, sRGB assumed")
        return "trust: " + "; ".join(parts)


def assess(photo: Photo, path: Path) -> Trust:
    """Judges a photo.

    The white is estimated by shades of grey: the ratio of the channels' Minkowski means over pixels that are not
    clipped. A scene without grey misleads it.

    Args:
        photo: as read.
        path: its file, for the tables of a JPEG.

    Source: G. Finlayson and E. Trezzi, "Shades of Gray and Colour Constancy", 2004.
    """
    step = max(1, -(-max(photo.codes.shape[:2]) // SAMPLED_SIDE))
    values = unit_range(photo.codes[::step, ::step]).reshape(-1, 3)
    clipped = (values >= CLIPPED).any(axis=-1)
    light = converted(values, photo.encoding, "linear").astype(np.float64)
    red, green, blue = _shades_of_grey(light[~clipped])
    spread, brightest = np.ptp(values, axis=-1), values.max(axis=-1)
    return Trust(
        red=red / green,
        blue=blue / green,
        clipped=float(clipped.mean()),
        dark=float((light.max(axis=-1) < DARK).mean()),
        grey=bool(np.quantile(spread / np.maximum(brightest, 0.05), 0.9) < GREY),
        jpeg_quality=_jpeg_quality(path) if photo.format == "JPEG" else None,
        profile=photo.profile,
    )


def _shades_of_grey(light: Shaped[np.ndarray, "P 3"]) -> tuple[float, float, float]:
    if not len(light) or not light.max(axis=0).all():
        return 1.0, 1.0, 1.0
    red, green, blue = np.mean(light**NORM, axis=0) ** (1 / NORM)
    return float(red), float(green), float(blue)


def _jpeg_quality(path: Path) -> int | None:
    """Estimates libjpeg's quality from the mean of the luminance table; other encoders have no such number."""
    with reading(path, "a JPEG photo"), open_image(path, "JPEG") as image:
        tables = getattr(image, "quantization", None) or {}
    if 0 not in tables:
        return None
    scale = 100 * float(np.mean(tables[0])) / _STANDARD_MEAN
    return round(float(np.clip((200 - scale) / 2 if scale <= 100 else 5000 / scale, 1, 100)))
