"""MST++: three U-Nets of transformer blocks with attention between spectral channels."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from m3sr_kernels.depthwise_conv_silu.xla import depthwise_conv3x3

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, LayerNorm, conv, dense, linear_init, statistics_dtype, uniform_fan_in
from m3sr_jax.models.unet import UNet


class SpectralAttention(Layer):
    """Attention between the channels of each head over all pixels, plus a positional embedding of the values.

    With q̂, k̂ of unit length over the pixels: A = softmax_j(s·Σ_p k̂[p,i]·q̂[p,j]), out[p,i] = Σ_j A[i,j]·v[p,j].
    """

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        project = partial(dense, channels, kernel_init=linear_init, **self.types)
        query, key, value = (project(use_bias=False, name=name)(x) for name in ("query", "key", "value"))
        rescale = self.param("rescale", nn.initializers.ones, (self.heads,), self.param_dtype)

        def by_head(image: Float[Array, "B H W C"]) -> Float[Array, "B P h c"]:
            return image.reshape(batch, height * width, self.heads, channels // self.heads)

        unit_key, unit_query = (_unit_over_pixels(by_head(image)) for image in (key, query))
        similarity = jnp.einsum("bphi,bphj->bhij", unit_key, unit_query)
        attention = nn.softmax(rescale.astype(similarity.dtype)[None, :, None, None] * similarity)
        mixed = jnp.einsum("bhij,bphj->bphi", attention.astype(self.dtype), by_head(value)).reshape(x.shape)
        return project(name="project")(mixed) + self._positions(value)

    def _positions(self, value: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        shape = (3, 3, value.shape[-1])
        first, second = (
            self.param(f"position_{i}", uniform_fan_in(9), shape, self.param_dtype).astype(self.dtype) for i in (0, 1)
        )
        return depthwise_conv3x3(nn.gelu(depthwise_conv3x3(value, first), approximate=False), second)


def _unit_over_pixels(x: Float[Array, "B P h c"]) -> Float[Array, "B P h c"]:
    """Divides each channel by its norm over the pixels, or by 1e-12 if that is larger."""
    x = x.astype(statistics_dtype(x.dtype))
    return x * jnp.reciprocal(jnp.sqrt(jnp.maximum(jnp.square(x).sum(1, keepdims=True), 1e-24)))


class FeedForward(Layer):
    """Layer norm, 1×1 to four times the width, depthwise 3×3 and 1×1 back, with GELUs between."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        pointwise = partial(conv, size=1, **self.types)
        x = LayerNorm(1e-5, **self.types, name="norm")(x)
        x = nn.gelu(pointwise(4 * width, width, name="expand")(x), approximate=False)
        kernel = self.param("conv_kernel", uniform_fan_in(9), (3, 3, 4 * width), self.param_dtype)
        x = nn.gelu(depthwise_conv3x3(x, kernel.astype(self.dtype)), approximate=False)
        return pointwise(width, 4 * width, name="reduce")(x)


class TransformerBlock(Layer):
    """Computes x + attention(x), then x + feed-forward(x)."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        x = x + SpectralAttention(self.heads, **self.types, name="attention")(x)
        return x + FeedForward(**self.types, name="feed_forward")(x)


class MSTPlusPlus(ImageNetwork):
    """MST++ (1.62 M parameters as published): RGB in [0, 1] to `num_bands` bands, no clamp.

    Attributes:
      num_bands: S, bands of the output and between the U-Nets.
      features: width of a U-Net at full size, and of every attention head.
      transformers: U-Nets in a row.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Cai et al., "MST++: Multi-stage Spectral-wise Transformer for Efficient Spectral Reconstruction", 2022.
    """

    TITLE, MULTIPLE = "MST++", 8
    MIN_SIZE = 5  # reflection adds at most one row fewer than the image has

    features: int = 31
    transformers: int = 3
    remat: bool = False

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        convolve = partial(conv, **self.types)
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock

        def make_group(level: int, name: str) -> nn.Module:
            return block(2**level, **self.types, name=name)

        start = y = convolve(self.num_bands, 3, name="conv_in")(image)
        for i in range(self.transformers):
            y = UNet(self.features, make_group, **self.types, name=f"unet_{i}")(y)
        return convolve(self.num_bands, self.num_bands, name="conv_out")(y) + start
