"""HSCNN+, the dense network: 38 blocks, each of which appends 16 channels to its input."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.image import EdgeConv, ImageNetwork
from m3sr_jax.models.layers import Layer

WIDTH = 64
GROWTH = 16


class DenseBlock(Layer):
    """Computes the 16 channels that a block adds: a 1×1 reduction, two 3×3 branches, a 1×1 summary of each."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W G"]:
        unit = partial(EdgeConv, **self.types)
        reduced = unit(WIDTH, 1, name="reduce")(x)
        first, second = (unit(GROWTH, 3, name=name)(reduced) for name in ("first", "second"))
        summarise = partial(unit, GROWTH // 2, 1)
        summaries = summarise(name="first_summary")(first), summarise(name="second_summary")(second)
        return unit(GROWTH, 1, name="fuse")(jnp.concatenate([first, second, *summaries], axis=-1))


class HSCNNPlus(ImageNetwork):
    """HSCNN+ (1.642 M parameters as published): RGB in [0, 1] to `num_bands` bands, never negative.

    Attributes:
      dense_blocks: blocks in a row.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Shi et al., "HSCNN+: Advanced CNN-based Hyperspectral Recovery from RGB Images" (CVPRW 2018), the dense
    network. As in the release, one 1×1 convolution of the stem is used twice.
    """

    TITLE = "HSCNN+"

    dense_blocks: int = 38
    remat: bool = False

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        unit = partial(EdgeConv, **self.types)
        first, second = (unit(GROWTH, 3, name=name)(image) for name in ("first", "second"))
        summary = unit(GROWTH, 1, name="summary")
        y = jnp.concatenate([first, second, summary(first), summary(second)], axis=-1)
        block = nn.remat(DenseBlock) if self.remat else DenseBlock
        for i in range(self.dense_blocks):
            y = jnp.concatenate([y, block(**self.types, name=f"block_{i}")(y)], axis=-1)
        return unit(self.num_bands, 1, name="fuse")(y)
