"""ESSAformer: five transformer blocks with attention that is linear in the number of pixels.

The setting is ours. The release enlarges cubes, with as many bands out as in, and nothing public says how others ran it
on RGB. Here it enlarges by 1, which leaves its resampling out, and its first convolution takes 3 channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, LayerNorm, conv, statistics_dtype

DROP_CHANNEL = 0.2
SLOPE = 0.2  # of the leaky ReLUs


class SpectralAttention(Layer):
    """Computes a linear layer of v + Q·(Kᵀ·v)/√N over the N pixels of an image.

    Q and K are the channels' shares of a pixel's energy; Q has unit length at each pixel, K in each channel.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        dense = partial(conv, in_features=channels, size=1, use_bias=True, **self.types)
        pixels = x.reshape(batch, height * width, channels)
        query, key, value = jnp.split(dense(3 * channels, name="query_key_value")(pixels), 3, axis=-1)
        query, key = _unit_length(_energy_shares(query), axis=2), _unit_length(_energy_shares(key), axis=1)
        summary = jnp.einsum("bpi,bpj->bij", key.astype(self.dtype), value) / _root(height * width, self.dtype)
        mixed = value + jnp.einsum("bpi,bij->bpj", query.astype(self.dtype), summary)
        return dense(channels, name="project")(mixed).reshape(x.shape)


def _energy_shares(x: Float[Array, "B P C"]) -> Float[Array, "B P C"]:
    """Centres each pixel's channels, and divides their squares by the sum of them."""
    x = x.astype(statistics_dtype(x.dtype))
    energy = jnp.square(x - x.mean(-1, keepdims=True))
    return energy / (energy.sum(-1, keepdims=True) + 1e-7)


def _unit_length(x: Float[Array, "B P C"], axis: int) -> Float[Array, "B P C"]:
    """Divides by the norm along an axis, or by 1e-12 if that is larger."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), 1e-24))


def _root(count: Any, dtype: Dtype) -> Float[Array, ""]:
    return jnp.sqrt(jnp.asarray(count, dtype))  # math.sqrt takes no symbolic count


class Block(Layer):
    """Adds to an image three convolutions of it beside the attention to it."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        convolve = partial(conv, in_features=2 * width, use_bias=True, **self.types)
        # Drops whole channels of a sample, in training alone.
        drop = partial(nn.Dropout, DROP_CHANNEL, broadcast_dims=(1, 2), deterministic=not self.has_rng("dropout"))
        mixed = SpectralAttention(**self.types, name="attention")(LayerNorm(1e-5, **self.types, name="norm")(x))
        y = jnp.concatenate([drop()(mixed), x], axis=-1)
        for i, size in enumerate((1, 3)):
            y = drop()(nn.leaky_relu(convolve(2 * width, size=size, name=f"conv_{i}")(y), SLOPE))
        return convolve(width, size=1, name="conv_2")(y) + x


class ESSAformer(ImageNetwork):
    """ESSAformer (6.114 M parameters in this setting): RGB in [0, 1] to `num_bands` bands, no clamp.

    Its attention sums over the whole image, so tiles change a prediction; other images of a batch do not. With a
    "dropout" key, as in training, each block drops channels with probability 0.2 at three places.

    Attributes:
      width: channels inside.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Zhang et al., "ESSAformer: Efficient Transformer for Hyperspectral Image Super-resolution" (ICCV 2023).
    """

    TITLE = "ESSAformer"

    width: int = 256
    remat: bool = False

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        convolve = partial(conv, use_bias=True, **self.types)
        block = nn.remat(Block) if self.remat else Block
        up, down = (block(**self.types, name=name) for name in ("up", "down"))
        before = convolve(self.width, 3, name="conv_in")(image)
        y = up(before)
        for again in (down, up, down, up):
            before, y = y, again(y + before)
        return convolve(self.num_bands, self.width, name="conv_out")(y)
