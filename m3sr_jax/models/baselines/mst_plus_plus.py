"""MST++: three U-Nets of transformer blocks whose attention is between spectral channels."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.baselines.image import check_image, reflect_to_multiple
from m3sr_jax.models.layers import Norm, conv, depthwise_conv3x3, linear_init, statistics_dtype, uniform_fan_in
from m3sr_jax.models.m3sr import UNet

MULTIPLE = 8
LEAST = 5  # a mirror image needs more rows than it adds


class SpectralAttention(nn.Module):
    """Attention between the channels of a head, over all pixels, plus a positional embedding of the values.

    With q̂, k̂ of unit length over the pixels: A = softmax_j(s·Σ_p k̂[p,i]·q̂[p,j]), out[p,i] = Σ_j A[i,j]·v[p,j].
    """

    heads: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        query, key, value = (
            nn.Dense(channels, use_bias=False, kernel_init=linear_init, name=name, **types)(x)
            for name in ("query", "key", "value")
        )
        rescale = self.param("rescale", nn.initializers.ones, (self.heads,), self.param_dtype)

        def by_head(image: Float[Array, "B H W C"]) -> Float[Array, "B P h c"]:
            return image.reshape(batch, height * width, self.heads, channels // self.heads)

        unit_key, unit_query = (_unit_over_pixels(by_head(image)) for image in (key, query))
        similarity = jnp.einsum("bphi,bphj->bhij", unit_key, unit_query)
        attention = nn.softmax(rescale.astype(similarity.dtype)[None, :, None, None] * similarity)
        mixed = jnp.einsum("bhij,bphj->bphi", attention.astype(self.dtype), by_head(value)).reshape(x.shape)
        mixed = nn.Dense(channels, kernel_init=linear_init, name="project", **types)(mixed)
        return mixed + self._positions(value)

    def _positions(self, value: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        shape = (3, 3, value.shape[-1])
        first, second = (
            self.param(f"position_{i}", uniform_fan_in(9), shape, self.param_dtype).astype(self.dtype) for i in (0, 1)
        )
        return depthwise_conv3x3(nn.gelu(depthwise_conv3x3(value, first), approximate=False), second)


def _unit_over_pixels(x: Float[Array, "B P h c"]) -> Float[Array, "B P h c"]:
    """Divides each channel by its length over the pixels, or by 1e-12 where that is more."""
    x = x.astype(statistics_dtype(x.dtype))
    return x * jnp.reciprocal(jnp.sqrt(jnp.maximum(jnp.square(x).sum(1, keepdims=True), 1e-24)))


class FeedForward(nn.Module):
    """Layer norm, then 1×1 to four times the width, depthwise 3×3, 1×1 back, with GELUs between."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Norm(epsilon=1e-5, name="norm", **types)(x)
        x = nn.gelu(conv(4 * width, width, size=1, name="expand", **types)(x), approximate=False)
        kernel = self.param("conv_kernel", uniform_fan_in(9), (3, 3, 4 * width), self.param_dtype)
        x = nn.gelu(depthwise_conv3x3(x, kernel.astype(self.dtype)), approximate=False)
        return conv(width, 4 * width, size=1, name="reduce", **types)(x)


class TransformerBlock(nn.Module):
    """Computes x + attention(x), then x + feed-forward(x)."""

    heads: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = x + SpectralAttention(self.heads, name="attention", **types)(x)
        return x + FeedForward(name="feed_forward", **types)(x)


class MSTPlusPlus(nn.Module):
    """MST++ (1.62 M parameters as published): RGB in [0, 1] to `num_bands` bands, no clamp.

    Attributes:
      num_bands: S, bands of the output and between the U-Nets.
      features: width of a U-Net at full size, and of every attention head.
      transformers: U-Nets in a row.
      dtype: type of the computation; norms and the attention's softmax stay in float32.
      param_dtype: type of the parameters.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Cai et al., "MST++: Multi-stage Spectral-wise Transformer for Efficient Spectral Reconstruction", 2022.
    """

    num_bands: int = 31
    features: int = 31
    transformers: int = 3
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, num_bands), H and W at least 5.

        Raises:
          ValueError: H or W below 5, not three channels, or integers.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = reflect_to_multiple(check_image("MST++", rgb, LEAST, self.dtype), MULTIPLE)
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock

        def make_group(level: int, name: str) -> nn.Module:
            return block(heads=2**level, name=name, **types)

        start = y = conv(self.num_bands, 3, name="conv_in", **types)(x)
        for i in range(self.transformers):
            y = UNet(self.features, make_group, name=f"unet_{i}", **types)(y)
        y = conv(self.num_bands, self.num_bands, name="conv_out", **types)(y)
        return (y + start)[:, : rgb.shape[1], : rgb.shape[2]].astype(statistics_dtype(self.dtype))
