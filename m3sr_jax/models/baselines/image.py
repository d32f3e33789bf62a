"""What the baselines ask of an image, how they pad it, and what they drop of it in training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
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


def pad_edges(x: Float[Array, "B H W C"], margin: int) -> Float[Array, "B h w C"]:
    """Repeats the edge pixels `margin` times on every side.

    Without a margin there is nothing to do, but the gradient of a pad by nothing would copy the image four times.
    """
    widths = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    return jnp.pad(x, widths, mode="edge") if margin else x


def dropped(module: nn.Module, x: Float[Array, "B H W C"], rate: float, channels: int = 1) -> Float[Array, "B H W C"]:
    """Sets samples, or channels of them, to 0 with probability `rate` and scales the others by 1/(1 − rate).

    Args:
      module: whose "dropout" key draws; without one, as outside training, nothing is dropped.
      x: (B, H, W, C).
      rate: probability.
      channels: 1 drops whole samples; C drops channels of each.
    """
    if not module.has_rng("dropout"):
        return x
    # Where only a part of a batch is computed here, its part of the whole batch's draw.
    count, first = module.get_variable("examples", "place", (x.shape[0], 0))
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, (count, 1, 1, channels))
    kept = kept if count == x.shape[0] else jax.lax.dynamic_slice_in_dim(kept, first, x.shape[0])
    return jnp.where(kept, x / (1 - rate), 0)
