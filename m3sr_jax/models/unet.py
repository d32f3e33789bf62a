"""The U-Net that M3SR and MST++ share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.layers import Layer, UpConv, conv

LEVELS = 2


class UNet(Layer):
    """A U-Net with a residual: S bands in and out, width F at full size, 2F at half, 4F at quarter size.

    Attributes:
      features: F.
      make_group: builds the layers of a level from its number (0 full, 1 half, 2 quarter size) and a `name`.
    """

    features: int
    make_group: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W S"]) -> Float[Array, "B H W S"]:
        convolve = partial(conv, **self.types)
        bands, skips = x.shape[-1], []
        y = convolve(self.features, bands, name="embedding")(x)
        for level in range(LEVELS):
            width = self.features * 2**level
            y = self.make_group(level, name=f"encoder_{level}")(y)
            skips.append(y)
            # "SAME" would pad unevenly.
            y = convolve(2 * width, width, size=4, stride=2, padding=1, name=f"down_{level}")(y)
        y = self.make_group(LEVELS, name="bottleneck")(y)
        for level in reversed(range(LEVELS)):
            width = self.features * 2**level
            y = UpConv(width, **self.types, name=f"up_{level}")(y)
            y = jnp.concatenate([y, skips[level]], axis=-1)
            y = convolve(width, 2 * width, size=1, name=f"merge_{level}")(y)
            y = self.make_group(level, name=f"decoder_{level}")(y)
        return convolve(bands, self.features, name="mapping")(y) + x
