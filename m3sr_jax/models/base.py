"""A regression that a network builds on: the network learns what the regression misses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.pixel import Pixel
from m3sr_jax.regression import Regression, features, terms_of

INITIAL_GAIN = 0.1
# Paths in the parameter tree. The coefficients are fitted when a run starts and get no gradient.
COEFFICIENTS = "regression"


class WithBase(nn.Module):
    """Computes φ(rgb)·W + pixel(rgb) + gain·network(rgb), with a learned gain for each band that starts at 0.1.

    Attributes:
      network: RGB (B, H, W, 3) → (B, H, W, num_bands), with its parameters under "network".
      base: the regression φ(rgb)·W, a name of `m3sr_jax.regression.REGRESSIONS`, or "none".
      pixel_head: whether to add a `Pixel` of its own, without a gain.
      num_bands: S, bands of the output.
      dtype: type of the pixel head's computation; the regression is always computed in float32 or wider.
      param_dtype: type of the pixel head's parameters.
    """

    network: nn.Module
    base: str = "none"
    pixel_head: bool = False
    num_bands: int = 31
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel, as the network does; raises what the network raises."""
        cube = self.network(rgb)
        gain = self.param("gain", nn.initializers.constant(INITIAL_GAIN), (self.num_bands,), jnp.float32)
        cube *= gain.astype(cube.dtype)[None, None, None]
        if self.pixel_head:
            head = Pixel(self.num_bands, dtype=self.dtype, param_dtype=self.param_dtype, name="pixel_head")
            cube += head(rgb).astype(cube.dtype)
        if self.base == "none":
            return cube
        terms = terms_of(self.base)
        shape = (len(terms), self.num_bands)
        weights = jax.lax.stop_gradient(self.param(COEFFICIENTS, nn.initializers.zeros, shape, jnp.float32))
        phi = features(jnp.asarray(rgb, cube.dtype), terms)
        return cube + jnp.matmul(phi, weights.astype(cube.dtype), precision=jax.lax.Precision.HIGHEST)


def bare_network(model: nn.Module) -> nn.Module:
    """Returns the network of a `WithBase`, any other model as it is."""
    return model.network if isinstance(model, WithBase) else model


def with_regression(params: dict[str, Any], fitted: Regression) -> dict[str, Any]:
    """Returns the parameters of a `WithBase` with the coefficients of a fit."""
    return params | {COEFFICIENTS: jnp.asarray(fitted.coefficients, jnp.float32)}


def with_linear_start(params: dict[str, Any], fitted: Regression) -> dict[str, Any]:
    """Returns parameters of M3SR or MST++ whose output is a linear fit.

    Both add their last convolution to their first: the centre of the first becomes the fit, and the last becomes zero.

    Args:
      params: parameters with "conv_in" and "conv_out", bias-free 3×3 convolutions.
      fitted: a regression "root1" or "root1_weighted", W (3, S).
    """
    first, last = params["conv_in"]["kernel"], params["conv_out"]["kernel"]
    centre = jnp.asarray(fitted.coefficients, first.dtype)
    first = jnp.zeros_like(first).at[1, 1].set(centre)
    return params | {"conv_in": {"kernel": first}, "conv_out": {"kernel": jnp.zeros_like(last)}}
