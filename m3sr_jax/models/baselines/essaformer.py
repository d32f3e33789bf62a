"""ESSAformer: five transformer blocks of two kinds, whose attention is linear in the number of pixels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.baselines.image import check_image, dropped
from m3sr_jax.models.layers import Norm, conv, statistics_dtype

DROP_CHANNEL = 0.2
SLOPE = 0.2


class SpectralAttention(nn.Module):
    """Adds to the values those of similar pixels: v + Q·(Kᵀ·v)/√N over the N pixels of an image, then a linear layer.

    Q and K are shares of each channel in the energy of a pixel's spectrum less its mean: Q of unit length at each
    pixel, K in each channel.
    """

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        types: dict[str, Any] = {"use_bias": True, "dtype": self.dtype, "param_dtype": self.param_dtype}
        pixels = x.reshape(batch, height * width, channels)
        query, key, value = jnp.split(conv(3 * channels, channels, 1, name="query_key_value", **types)(pixels), 3, -1)
        query, key = _unit(_energy_shares(query), axis=2), _unit(_energy_shares(key), axis=1)
        summary = jnp.einsum("bpi,bpj->bij", key.astype(self.dtype), value) / _root(height * width, self.dtype)
        mixed = value + jnp.einsum("bpi,bij->bpj", query.astype(self.dtype), summary)
        return conv(channels, channels, 1, name="project", **types)(mixed).reshape(x.shape)


def _energy_shares(x: Float[Array, "B P C"]) -> Float[Array, "B P C"]:
    """Centres each pixel's channels and gives the share of each in the sum of their squares."""
    x = x.astype(statistics_dtype(x.dtype))
    energy = jnp.square(x - x.mean(-1, keepdims=True))
    return energy / (energy.sum(-1, keepdims=True) + 1e-7)


def _unit(x: Float[Array, "B P C"], axis: int) -> Float[Array, "B P C"]:
    """Divides by the length along an axis, or by 1e-12 where that is more."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), 1e-24))


def _root(count: Any, dtype: Dtype) -> Float[Array, ""]:
    return jnp.sqrt(jnp.asarray(count, dtype))  # the count may be symbolic


class Block(nn.Module):
    """Attention to the normed image, then three convolutions of it and the image itself, added to the image."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        mixed = SpectralAttention(name="attention", **types)(Norm(epsilon=1e-5, name="norm", **types)(x))
        y = jnp.concatenate([self._drop(mixed), x], axis=-1)
        for name, size in (("conv_0", 1), ("conv_1", 3)):
            y = conv(2 * width, 2 * width, size, use_bias=True, name=name, **types)(y)
            y = self._drop(nn.leaky_relu(y, SLOPE))
        return conv(width, 2 * width, 1, use_bias=True, name="conv_2", **types)(y) + x

    def _drop(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return dropped(self, x, DROP_CHANNEL, channels=x.shape[-1])


class ESSAformer(nn.Module):
    """ESSAformer (6.114 M parameters): RGB in [0, 1] to `num_bands` bands, no clamp. Its setting here is ours.

    The release enlarges cubes and has as many bands as its input. Nothing public says how others ran it from RGB; here
    it enlarges by 1, which leaves its resampling out, and takes 3 channels in the first convolution.

    The attention sums over all pixels, so a tile is predicted otherwise than the same pixels of the whole; the other
    images of a batch do not matter. Given a "dropout" key, as in training, whole channels of a sample are left out with
    probability 0.2 at three places of each block.

    Attributes:
      num_bands: S, bands of the output.
      width: channels inside.
      dtype: type of the computation; norms and the attention's shares stay in float32.
      param_dtype: type of the parameters.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Zhang et al., "ESSAformer: Efficient Transformer for Hyperspectral Image Super-resolution" (ICCV 2023).
    """

    num_bands: int = 31
    width: int = 256
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
        image = check_image("ESSAformer", rgb, 1, self.dtype)
        block = nn.remat(Block) if self.remat else Block
        up, down = block(name="up", **types), block(name="down", **types)
        before = conv(self.width, 3, use_bias=True, name="conv_in", **types)(image)
        y = up(before)
        for step in (down, up, down, up):
            before, y = y, step(y + before)
        y = conv(self.num_bands, self.width, use_bias=True, name="conv_out", **types)(y)
        return y.astype(statistics_dtype(self.dtype))
