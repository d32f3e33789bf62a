"""How RGB values relate to light, and the conversion from one encoding to another.

codes    as a benchmark stores them, whatever they mean: never converted
linear   proportional to light, in sRGB's primaries
srgb     sRGB's curve, as in most photos
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from m3sr_jax.io.photos.spaces import srgb_decode, srgb_encode

Encoding = Literal["codes", "linear", "srgb"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


def converted(values: Float32[np.ndarray, "*S"], found: Encoding, expected: Encoding) -> Float32[np.ndarray, "*S"]:
    """Converts values in [0, 1] from the encoding of a photo to the one that a model takes."""
    if found == expected or "codes" in (found, expected):
        return values
    return (srgb_decode(values) if expected == "linear" else srgb_encode(values)).astype(np.float32)


def mismatch(found: Encoding, expected: Encoding) -> str | None:
    """Returns a phrase for a photo that a model takes in another way than it was trained on, None if all is well."""
    if expected == "codes" and found == "linear":
        return "the photo is linear, and the model takes the codes of its benchmark: the colours may not fit"
    return None
