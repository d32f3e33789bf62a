"""How the RGB values of a photo become [0, 1]: by the format's largest value ("unit") or by the image's ("minmax").

Source: NTIRE 2022's reference code normalises its JPEG images by "minmax".
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8

RgbNormalization = Literal["unit", "minmax"]
RGB_NORMALIZATIONS: tuple[RgbNormalization, ...] = get_args(RgbNormalization)


def normalise_rgb(
    rgb: Float[Any, "*B H W 3"], normalization: str, extremes: tuple[float, float] | None = None
) -> Float[Any, "*B H W 3"]:
    """Scales photos the way a model's training photos were scaled.

    Args:
        rgb: NumPy or, in a traced program, JAX array (…, H, W, 3): pixel values over the format's largest value.
        normalization: "unit" returns them as they are; "minmax" is (x − min)/(max − min) over each image, and zeros
            for an image of one value.
        extremes: min and max of the whole photo, if `rgb` is a part of it.
    """
    if normalization == "unit":
        return rgb
    if normalization != "minmax":
        raise ValueError(f'normalization is "unit" or "minmax", got {normalization!r}')
    low, high = (reduce(axis=(-3, -2, -1), keepdims=True) for reduce in (rgb.min, rgb.max))
    if extremes is not None:
        low, high = (np.full_like(low, value) for value in extremes)
    return (rgb - low) / (high - low).clip(min=np.finfo(np.float32).tiny)


def rgb_range(codes: UInt8[np.ndarray, "H W 3"], normalization: str) -> tuple[int, int]:
    """Returns the codes that `normalise_rgb` maps to 0 and 1: those of the type, or the image's own extremes."""
    if normalization == "unit":
        return 0, 255
    low, high = int(codes.min()), int(codes.max())
    return low, max(high, low + 1)
