"""FMNet: mixtures of three convolutional functions, weighted at each pixel."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, conv, normal_fan

SIZES = 3, 7, 11  # of the functions' kernels, in pixels
WEIGHT_LAYERS = 3  # hidden layers, after its first, of the network that weighs the functions


def _convolve(x: Float[Array, "B H W C"], features: int, size: int = 3, **fields: Any) -> Float[Array, "B H W O"]:
    """Applies a convolution whose initial weights depend on its outputs."""
    return conv(features, x.shape[-1], size, kernel_init=normal_fan(size**2 * features), **fields)(x)


class PixelWeights(Layer):
    """Computes the weight of each function at each pixel, s_m/(Σ s + 1e-9) with sigmoids s; not a softmax."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W M"]:
        for name in ("input", *(f"hidden_{i}" for i in range(WEIGHT_LAYERS))):
            x = nn.relu(_convolve(x, self.width, name=name, **self.types))
        scores = nn.sigmoid(_convolve(x, len(SIZES), name="output", **self.types))
        return scores / (scores.sum(-1, keepdims=True) + 1e-9)


class Mixture(Layer):
    """Computes Σ_m w_m·D_m(x), with weights w for each pixel; D_m is two convolutions with a ReLU between."""

    features: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        convolve = functools.partial(_convolve, use_bias=True, **self.types)
        weights = PixelWeights(self.width, **self.types, name="weights")(x)
        parts = []
        for size, weight in zip(SIZES, jnp.split(weights, len(SIZES), axis=-1), strict=True):
            hidden = nn.relu(convolve(x, self.width, size, name=f"input_{size}"))
            parts.append(weight * convolve(hidden, self.features, size, name=f"output_{size}"))
        return functools.reduce(jnp.add, parts)


class FMNet(ImageNetwork):
    """FMNet (11.793 M parameters): RGB in [0, 1] to `num_bands` bands, no clamp.

    Attributes:
      num_bands: S, bands of the output and of the image that RGB is interpolated to.
      blocks: mixtures in a row; two more follow.
      width: channels inside.
      remat: recompute each mixture's activations in the backward pass instead of keeping them.

    Source: Zhang et al., "Pixel-aware Deep Function-mixture Network for Spectral Super-Resolution" (AAAI 2020), as the
    DL4sSR toolbox computes it; four blocks have the published cost.
    """

    TITLE = "FMNet"

    blocks: int = 4
    width: int = 64
    remat: bool = False

    @property
    def margin(self) -> int:
        """The greatest distance, in pixels, between a pixel and one that it depends on."""
        mixture = 2 * (max(SIZES) // 2)
        return 1 + self.blocks * (1 + mixture) + 2 * mixture

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        mixture = nn.remat(Mixture) if self.remat else Mixture
        start = interpolate_bands(image, self.num_bands)
        y, mixed = _convolve(start, self.width, name="input", **self.types), []
        for i in range(self.blocks):
            y = nn.relu(_convolve(y, self.width, name=f"conv_{i}", **self.types))
            y = mixture(self.width, self.width, name=f"mixture_{i}", **self.types)(y)
            mixed.append(y)
        y = mixture(self.width, self.width, name="combine", **self.types)(jnp.concatenate(mixed, axis=-1))
        return mixture(self.num_bands, self.width, name="output", **self.types)(y) + start


def interpolate_bands(rgb: Float[Array, "B H W 3"], bands: int) -> Float[Array, "B H W S"]:
    """Interpolates linearly from three channels to `bands`, constant beyond the centres of red and blue.

    The first bands are red although the output's first band is the shortest wavelength, as in the release.
    """
    place = np.clip(3 * (np.arange(bands) + 0.5) / bands - 0.5, 0, 2)
    low = np.minimum(np.floor(place).astype(int), 1)
    share = jnp.asarray(place - low, rgb.dtype)[None, None, None]
    return (1 - share) * rgb[..., low] + share * rgb[..., low + 1]
