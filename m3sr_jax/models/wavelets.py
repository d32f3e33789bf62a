"""One-level 2-D wavelet transform of channels-last images and its inverse; bands are stacked on the channel axis.

The bands are LL, then horizontal, vertical and diagonal detail (PyWavelets' cA, cH, cV, cD). Borders are padded with
zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LIBRARY_PREFIX = "jaxwt:"


def dwt2(image: Float[Array, "B H W C"], wavelet: str = "haar") -> Float[Array, "B h w 4*C"]:
    """Computes the four bands of an image.

    Args:
      image: (B, H, W, C).
      wavelet: "haar" (a four-term butterfly; H and W must be even), another discrete wavelet of PyWavelets, or
        "jaxwt:NAME", which computes Haar through jaxwt too.

    Returns:
      (B, h, w, 4C), band-major. h = ⌊(H+K−1)/2⌋ for filters of length K: H/2 for Haar, a little more for longer ones.

    Raises:
      ValueError: the wavelet is unknown.

    Source: paper section on the frequency branch; PyWavelets' `dwt2` with mode "zero" is the definition.
    """
    if wavelet == "haar":
        return haar_dwt2(image)
    name = library_name(wavelet)
    from jaxwt import wavedec2

    low, details = _relaxed(wavedec2)(jnp.moveaxis(image, -1, 1), name, mode="zero", level=1)
    return jnp.concatenate([jnp.moveaxis(band, 1, -1) for band in (low, *details)], axis=-1)


def idwt2(bands: Float[Array, "B h w D"], shape: tuple[Any, Any], wavelet: str = "haar") -> Float[Array, "B H W C"]:
    """Inverts `dwt2`, for an image of `shape` (H, W), which may be symbolic.

    Longer filters return a larger image, which is cropped.
    """
    if wavelet == "haar":
        return haar_idwt2(bands)
    name = library_name(wavelet)
    from jaxwt import waverec2

    low, *details = jnp.split(jnp.moveaxis(bands, -1, 1), 4, axis=1)
    image = _relaxed(waverec2)([low, tuple(details)], name)
    return jnp.moveaxis(image[..., : shape[0], : shape[1]], 1, -1)


def haar_dwt2(image: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 4*C"]:
    """Computes the Haar bands of every 2×2 cell [[a, b], [c, d]].

    LL = (a+b+c+d)/2, horizontal = (a+b−c−d)/2, vertical = (a−b+c−d)/2, diagonal = (a−b−c+d)/2.

    Args:
      image: (B, H, W, C), H and W even.

    Returns:
      (B, H/2, W/2, 4C), band-major.

    Source: orthonormal Haar transform.
    """
    a, b, c, d = (image[:, row::2, column::2] for row in (0, 1) for column in (0, 1))
    return jnp.concatenate(_butterfly(a, b, c, d), axis=-1)


def haar_idwt2(bands: Float[Array, "B h w D"]) -> Float[Array, "B 2*h 2*w C"]:
    """Inverts `haar_dwt2`: the butterfly is its own inverse."""
    batch, height, width, channels = bands.shape
    cells = jnp.stack(_butterfly(*jnp.split(bands, 4, axis=-1)), axis=-2)
    cells = cells.reshape(batch, height, width, 2, 2, channels // 4)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


def library_name(wavelet: str) -> str:
    """Returns PyWavelets' name of a wavelet.

    Args:
      wavelet: a name, with or without the prefix "jaxwt:".

    Raises:
      ValueError: PyWavelets has no discrete wavelet of that name.
    """
    from pywt import wavelist  # pyright: ignore[reportAttributeAccessIssue]: pywt ships no types

    name = wavelet.removeprefix(LIBRARY_PREFIX)
    if name not in wavelist(kind="discrete"):
        raise ValueError(
            f"wavelet {wavelet} is unknown: expected haar, another discrete PyWavelets name (db2, sym4, coif1, …), "
            "or jaxwt: before such a name"
        )
    return name


def _butterfly(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array, Array]:
    return (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2


def _relaxed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets jaxwt mix types and ranks, as its code expects, even where the caller's settings forbid it."""

    def run(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return run
