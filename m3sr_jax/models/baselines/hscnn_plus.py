"""HSCNN+, the dense network: 38 blocks, each of which appends 16 channels to its input."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.image import check_image, pad_edges
from m3sr_jax.models.layers import conv, statistics_dtype

WIDTH = 64
GROWTH = 16


class Unit(nn.Module):
    """ReLU of a convolution with bias; the image is padded with its edge pixels."""

    features: int
    size: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        convolve = partial(conv, use_bias=True, padding=0, dtype=self.dtype, param_dtype=self.param_dtype)
        padded = pad_edges(x, self.size // 2)
        return nn.relu(convolve(self.features, x.shape[-1], self.size, name="conv")(padded))


class DenseBlock(nn.Module):
    """Computes the 16 channels that a block adds: a 1×1 reduction, two 3×3 branches, a 1×1 summary of each."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W G"]:
        unit = partial(Unit, dtype=self.dtype, param_dtype=self.param_dtype)
        reduced = unit(WIDTH, 1, name="reduce")(x)
        first, second = (unit(GROWTH, 3, name=name)(reduced) for name in ("first", "second"))
        summarise = partial(unit, GROWTH // 2, 1)
        summaries = summarise(name="first_summary")(first), summarise(name="second_summary")(second)
        return unit(GROWTH, 1, name="fuse")(jnp.concatenate([first, second, *summaries], axis=-1))


class HSCNNPlus(nn.Module):
    """HSCNN+ (1.642 M parameters as published): RGB in [0, 1] to `num_bands` bands, never negative.

    Attributes:
      num_bands: S, bands of the output.
      dense_blocks: blocks in a row.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Shi et al., "HSCNN+: Advanced CNN-based Hyperspectral Recovery from RGB Images" (CVPRW 2018), the dense
    network. As in the release, one 1×1 convolution of the stem is used twice.
    """

    num_bands: int = 31
    dense_blocks: int = 38
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, num_bands), any H and W.

        Raises:
          ValueError: there are not three channels, or the values are integers.
        """
        x = check_image("HSCNN+", rgb, 1, self.dtype)
        unit = partial(Unit, dtype=self.dtype, param_dtype=self.param_dtype)
        first, second = (unit(GROWTH, 3, name=name)(x) for name in ("first", "second"))
        summary = unit(GROWTH, 1, name="summary")
        y = jnp.concatenate([first, second, summary(first), summary(second)], axis=-1)
        block = nn.remat(DenseBlock) if self.remat else DenseBlock
        for i in range(self.dense_blocks):
            y = jnp.concatenate([y, block(self.dtype, self.param_dtype, name=f"block_{i}")(y)], axis=-1)
        return unit(self.num_bands, 1, name="fuse")(y).astype(statistics_dtype(self.dtype))
