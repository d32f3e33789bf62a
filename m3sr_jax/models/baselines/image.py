"""What the baselines ask of an image, and how they pad it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype
from jaxtyping import Array, Float, Num


def check_image(
    name: str, rgb: Num[Array | np.ndarray, "B H W C"], least: int, dtype: Dtype
) -> Float[Array, "B H W C"]:
    """Returns the image in the network's type.

    Args:
      name: the network, for messages.
      rgb: (B, H, W, 3), RGB in [0, 1].
      least: smallest H and W that it takes.
      dtype: type of the computation.

    Raises:
      ValueError: H or W below `least`, not three channels, or integers.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise ValueError(f"{name} takes images of shape (B, H, W, 3), got {rgb.shape}")
    if any(side < least for side in rgb.shape[1:3]):  # min() would compare the sides, which may be symbolic
        size = f"{rgb.shape[1]}×{rgb.shape[2]}"
        raise ValueError(f"{name} takes images of at least {least}×{least} pixels, got H×W = {size}")
    if not jnp.issubdtype(rgb.dtype, jnp.floating):
        raise ValueError(f"{name} takes RGB in [0, 1] as floating-point numbers, got {rgb.dtype}: scale it first")
    return jnp.asarray(rgb, dtype)


def reflect_to_multiple(image: Float[Array, "B H W C"], multiple: int) -> Float[Array, "B h w C"]:
    """Pads at the bottom and right, mirrored without the edge pixel, until H and W divide by `multiple`."""
    _, height, width, _ = image.shape
    return jnp.pad(image, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")
