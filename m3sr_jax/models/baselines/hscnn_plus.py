"""HSCNN+, dense form: 38 blocks, each of which adds 16 channels to all that came before."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.baselines.image import check_image, pad_edges
from m3sr_jax.models.layers import conv, statistics_dtype

WIDTH = 64
GROWTH = 16


class Unit(nn.Module):
    """ReLU of a convolution with bias, the image padded by its edge pixels."""

    features: int
    size: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        layer = conv(self.features, x.shape[-1], self.size, use_bias=True, padding=0, name="conv", **types)
        return nn.relu(layer(pad_edges(x, self.size // 2)))


class DenseBlock(nn.Module):
    """The 16 channels that a block adds: two 3×3 branches of a 1×1 reduction, each with its own 1×1 summary."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W G"]:
        def unit(features: int, size: int, name: str) -> Unit:
            return Unit(features, size, self.dtype, self.param_dtype, name=name)

        reduced = unit(WIDTH, 1, "reduce")(x)
        first, second = (unit(GROWTH, 3, name)(reduced) for name in ("first", "second"))
        summaries = unit(GROWTH // 2, 1, "first_summary")(first), unit(GROWTH // 2, 1, "second_summary")(second)
        return unit(GROWTH, 1, "fuse")(jnp.concatenate([first, second, *summaries], axis=-1))


class HSCNNPlus(nn.Module):
    """HSCNN+ (1.642 M parameters as published): RGB in [0, 1] to `num_bands` bands, never negative.

    Attributes:
      num_bands: S, bands of the output.
      dense_blocks: blocks in a row.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Shi et al., "HSCNN+: Advanced CNN-based Hyperspectral Recovery from RGB Images" (CVPRW 2018), the dense
    network. The stem's two 1×1 convolutions are one, used twice, as in the release whose numbers this gives.
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
          ValueError: not three channels, or integers.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = check_image("HSCNN+", rgb, 1, self.dtype)
        first, second = (Unit(GROWTH, 3, name=name, **types)(x) for name in ("first", "second"))
        summary = Unit(GROWTH, 1, name="summary", **types)
        y = jnp.concatenate([first, second, summary(first), summary(second)], axis=-1)
        block = nn.remat(DenseBlock) if self.remat else DenseBlock
        for i in range(self.dense_blocks):
            y = jnp.concatenate([y, block(name=f"block_{i}", **types)(y)], axis=-1)
        return Unit(self.num_bands, 1, name="fuse", **types)(y).astype(statistics_dtype(self.dtype))
