"""HRNet: four scales made by pixel unshuffling; pixel shuffling passes each scale up to the next."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, conv

RESIDUAL_SCALE = 0.1


class Unit(Layer):
    """Leaky ReLU (slope 0.2) of a convolution with bias."""

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        convolve = partial(conv, use_bias=True, **self.types)
        return nn.leaky_relu(convolve(self.features, x.shape[-1], self.size, name="conv")(x), 0.2)


class DenseBlock(Layer):
    """Five convolutions, each of the input and all earlier outputs; adds a tenth of the last to the input."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width, seen = x.shape[-1], x
        for i in range(1, 6):
            features = width if i == 5 else width // 2
            new = Unit(features, **self.types, name=f"conv{i}")(seen)
            seen = jnp.concatenate([seen, new], axis=-1)
        return RESIDUAL_SCALE * new + x


class GlobalBlock(Layer):
    """Two convolutions in a row; adds a tenth of the second to the input.

    The release also computes a squeeze-and-excitation gate here, which it discards.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        y = x
        for name in ("conv1", "conv2"):
            y = Unit(x.shape[-1], **self.types, name=name)(y)
        return RESIDUAL_SCALE * y + x


class HRNet(ImageNetwork):
    """HRNet (31.705 M parameters as published): RGB in [0, 1] to `num_bands` bands, no clamp.

    Attributes:
      width: channels at full size; 2, 4 and 8 times as many at 1/2, 1/4 and 1/8.
      remat: recompute each block's activations in the backward pass instead of keeping them.

    Source: Zhao et al., "Hierarchical Regression Network for Spectral Reconstruction from RGB Images" (CVPRW 2020).
    """

    TITLE, MULTIPLE = "HRNet", 8
    MIN_SIZE = 5  # reflection adds at most one row fewer than the image has

    width: int = 64
    remat: bool = False

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        y = self._unit("top1", 8 * self.width)(unshuffle(image, 8))
        y = self._blocks("top2", 1, y)
        y = shuffle(self._unit("top3", 8 * self.width, size=1)(y), 2)
        for name, scale, blocks in (("mid", 4, 1), ("bot", 2, 2), ("main", 1, 4)):
            features = scale * self.width
            here = self._unit(f"{name}1", features)(unshuffle(image, scale))
            y = self._unit(f"{name}2", features)(jnp.concatenate([here, y], axis=-1))
            y = self._blocks(f"{name}3", blocks, y)
            y = self._unit(f"{name}4", features if scale > 1 else self.num_bands)(y)
            y = shuffle(y, 2) if scale > 1 else y
        return y

    def _unit(self, name: str, features: int, size: int = 3) -> Unit:
        return Unit(features, size, **self.types, name=name)

    def _blocks(self, name: str, count: int, y: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Runs `count` dense blocks and a global one; their names are `name` and a number from 1."""
        for i, kind in enumerate([DenseBlock] * count + [GlobalBlock], start=1):
            block = nn.remat(kind) if self.remat else kind
            y = block(**self.types, name=f"{name}{i}")(y)
        return y


def unshuffle(image: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w D"]:
    """Moves the pixels of each factor×factor square to channels: out[i, j, c·f² + y·f + x] = in[f·i+y, f·j+x, c]."""
    batch, height, width, channels = image.shape
    squares = image.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return squares.transpose(0, 1, 3, 5, 2, 4).reshape(batch, height // factor, width // factor, -1)


def shuffle(image: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w D"]:
    """Undoes `unshuffle`."""
    batch, height, width, channels = image.shape
    squares = image.reshape(batch, height, width, channels // factor**2, factor, factor)
    return squares.transpose(0, 1, 4, 2, 5, 3).reshape(batch, factor * height, factor * width, -1)
