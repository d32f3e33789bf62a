"""FMNet: at every pixel a weighted sum of three functions with windows of 3, 7 and 11 pixels, six times."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.baselines.image import check_image
from m3sr_jax.models.layers import conv, normal_fan, statistics_dtype

SIZES = 3, 7, 11
WEIGHT_LAYERS = 3  # hidden convolutions of the network that weighs the functions, after its first


def _conv(x: Array, features: int, size: int, *, use_bias: bool, name: str, **types: Any) -> Array:
    """A convolution of `x` that keeps its size, initialised by the fan on its output side."""
    init = normal_fan(size**2 * features)
    return conv(features, x.shape[-1], size, use_bias=use_bias, kernel_init=init, name=name, **types)(x)


class PixelWeights(nn.Module):
    """The share of each function at each pixel: s_m/(Σ s + 1e-9) of sigmoids s, no softmax."""

    width: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W M"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": False}
        for name in ("input", *(f"hidden_{i}" for i in range(WEIGHT_LAYERS))):
            x = nn.relu(_conv(x, self.width, 3, name=name, **types))
        scores = nn.sigmoid(_conv(x, len(SIZES), 3, name="output", **types))
        return scores / (scores.sum(-1, keepdims=True) + 1e-9)


class Mixture(nn.Module):
    """Σ_m w_m·D_m(x), one set of weights w for each pixel; D_m: two convolutions of one size with a ReLU between."""

    features: int
    width: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        weights = PixelWeights(self.width, name="weights", **types)(x)
        total = 0
        for m, size in enumerate(SIZES):
            hidden = nn.relu(_conv(x, self.width, size, use_bias=True, name=f"input_{size}", **types))
            value = _conv(hidden, self.features, size, use_bias=True, name=f"output_{size}", **types)
            total = total + weights[..., m : m + 1] * value
        return total


class FMNet(nn.Module):
    """FMNet (11.793 M parameters): RGB in [0, 1] to `num_bands` bands, no clamp.

    Attributes:
      num_bands: S, bands of the output and of the image that RGB is lifted to.
      blocks: mixtures in a row before the two last ones.
      width: channels inside.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      remat: recompute each mixture's activations in the backward pass instead of keeping them.

    Source: Zhang et al., "Pixel-aware Deep Function-mixture Network for Spectral Super-Resolution" (AAAI 2020), in the
    form of the DL4sSR toolbox, whose numbers this gives; four blocks have the published cost.
    """

    num_bands: int = 31
    blocks: int = 4
    width: int = 64
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False

    @property
    def margin(self) -> int:
        """How far away the pixels are, at most, that a pixel depends on."""
        mixture = 2 * (max(SIZES) // 2)
        return 1 + self.blocks * (1 + mixture) + 2 * mixture

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, num_bands), any H and W.

        Raises:
          ValueError: not three channels, or integers.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        mixture = nn.remat(Mixture) if self.remat else Mixture
        start = lift(check_image("FMNet", rgb, 1, self.dtype), self.num_bands)
        y, kept = _conv(start, self.width, 3, use_bias=False, name="input", **types), []
        for i in range(self.blocks):
            y = nn.relu(_conv(y, self.width, 3, use_bias=False, name=f"conv_{i}", **types))
            y = mixture(self.width, self.width, name=f"mixture_{i}", **types)(y)
            kept.append(y)
        y = mixture(self.width, self.width, name="combine", **types)(jnp.concatenate(kept, axis=-1))
        y = mixture(self.num_bands, self.width, name="output", **types)(y) + start
        return y.astype(statistics_dtype(self.dtype))


def lift(rgb: Float[Array, "B H W 3"], bands: int) -> Float[Array, "B H W S"]:
    """Interpolates linearly from three channels to many, as an image is enlarged: band centres, not ends, coincide.

    The first bands are red and the last blue, although the first band of the output is the shortest wavelength: so the
    release has it.
    """
    place = np.clip(3 * (np.arange(bands) + 0.5) / bands - 0.5, 0, 2)
    low = np.minimum(np.floor(place).astype(int), 1)
    share = jnp.asarray(place - low, rgb.dtype)[None, None, None]
    return (1 - share) * rgb[..., low] + share * rgb[..., low + 1]
