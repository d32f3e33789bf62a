"""What the networks require of an image, and how they pad it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype
from jaxtyping import Array, Float, Num


def check_image(
    name: str, rgb: Num[Array | np.ndarray, "B H W C"], min_size: int, dtype: Dtype
) -> Float[Array, "B H W C"]:
    """Returns the image in the network's type.

    Args:
      name: the network's name, for messages.
      rgb: (B, H, W, 3), RGB in [0, 1].
      min_size: smallest H and W that the network takes, in pixels.
      dtype: type of the computation.

    Raises:
      ValueError: H or W is below `min_size`, there are not three channels, or the values are integers.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise ValueError(f"{name} takes images of shape (B, H, W, 3), got {rgb.shape}")
    if any(side < min_size for side in rgb.shape[1:3]):  # min() would compare the sides, which may be symbolic
        size = f"{rgb.shape[1]}×{rgb.shape[2]}"
        raise ValueError(f"{name} takes images of at least {min_size}×{min_size} pixels, got H×W = {size}")
    if not jnp.issubdtype(rgb.dtype, jnp.floating):
        raise ValueError(f"{name} takes RGB in [0, 1] as floating-point numbers, got {rgb.dtype}: scale it first")
    return jnp.asarray(rgb, dtype)


def reflect_to_multiple(image: Float[Array, "B H W C"], multiple: int) -> Float[Array, "B h w C"]:
    """Pads bottom and right by reflection, edge pixels not repeated, until `multiple` divides H and W."""
    _, height, width, _ = image.shape
    return jnp.pad(image, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def pad_edges(x: Float[Array, "B H W C"], margin: int) -> Float[Array, "B h w C"]:
    """Repeats the edge pixels `margin` times on every side.

    Without a margin it does not call `jnp.pad`, whose gradient would copy the image four times.
    """
    widths = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    return jnp.pad(x, widths, mode="edge") if margin else x
