"""A regression alone, or one that a network builds on: the network learns what the regression misses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.config.names import MatmulPrecision
from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, statistics_dtype
from m3sr_jax.models.pixel import Pixel
from m3sr_jax.models.precision import jax_precision
from m3sr_jax.regression import Regression, features, terms_of

INITIAL_GAIN = 0.1
DARK = 1e-3  # a quarter of an 8-bit step: a black image stays black
# Paths in the parameter tree. These are computed when a run starts and get no gradient.
COEFFICIENTS = "regression"
COLOURS = ("colour_matrix", "colour_inverse")
FIXED = (COEFFICIENTS, *COLOURS)
# The photo's value of a clipped channel says only that light was brighter: code 254.
CLIPPED_LIGHT = 0.99


class PlainRegression(ImageNetwork):
    """Computes φ(rgb)·W alone, in float32 or wider.

    Attributes:
      base: a name of `m3sr_jax.regression.REGRESSIONS`; a call with "none" raises ValueError.
    """

    TITLE = "the regression"

    base: str = "root3"

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        if self.base == "none":
            raise ValueError("the network regression is its base alone: set model.base to a regression, such as root2")
        return _regression(self, image.astype(statistics_dtype(self.dtype)), self.param_dtype)


class WithBase(Layer):
    """Computes φ(rgb)·W + pixel(rgb) + gain·network(rgb), with a learned gain for each band that starts at 0.1.

    With `normalise_exposure`, network and pixel head see rgb / s, and their sum is multiplied by s, the image's root
    mean square: half the exposure then gives half of what they add, and with a homogeneous regression half the cube.

    With `exact_colour`, the smooth spectrum that makes up what the sum lacks in colour is added to it, so that the cube
    under D65 is the photo in linear sRGB. Where a channel of the photo is clipped it may be brighter, and where it is 0
    darker. The network then learns metameric blacks alone.

    Attributes:
      network: RGB (B, H, W, 3) → (B, H, W, num_bands), with its parameters under "network".
      base: the regression φ(rgb)·W, a name of `m3sr_jax.regression.REGRESSIONS`, or "none".
      pixel_head: whether to add a `Pixel` of its own, without a gain.
      normalise_exposure: whether to divide by each image's brightness, and multiply by it again.
      exact_colour: whether the cube has to show the photo; RGB has to be linear sRGB, and the cube reflectance.
      num_bands: S, bands of the output.
      dtype: type of the pixel head's computation; the regression is always computed in float32 or wider.
      param_dtype: type of the pixel head's parameters.
      matmul_precision: of the products here, as in `ImageNetwork`.

    Source of the exact colour: J. Cohen and W. Kappauf, "Metameric color stimuli, fundamental metamers, and Wyszecki's
    metameric blacks", 1982.
    """

    network: nn.Module
    base: str = "none"
    pixel_head: bool = False
    num_bands: int = 31
    normalise_exposure: bool = False
    exact_colour: bool = False
    matmul_precision: MatmulPrecision = "float32"

    @nn.compact
    def __call__(
        self,
        rgb: Num[Array | np.ndarray, "B H W C"],
        mean_square: Float[Array, ""] | None = None,
    ) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel, as the network does; raises what the network raises.

        Args:
          rgb: images.
          mean_square: of the whole image, if these are tiles of one; by default that of each image.
        """
        brightness = _brightness(rgb, mean_square) if self.normalise_exposure else None
        image = rgb if brightness is None else (rgb / brightness).astype(jnp.asarray(rgb).dtype)
        cube = self.network(image)
        gain = self.param("gain", nn.initializers.constant(INITIAL_GAIN), (self.num_bands,), jnp.float32)
        cube *= gain.astype(cube.dtype)[None, None, None]
        if self.pixel_head:
            precision = self.matmul_precision
            head = Pixel(num_bands=self.num_bands, matmul_precision=precision, **self.types, name="pixel_head")
            cube += head(image).astype(cube.dtype)
        if brightness is not None:
            cube *= brightness.astype(cube.dtype)
        if self.base != "none":
            cube += _regression(self, jnp.asarray(rgb, cube.dtype), jnp.float32)
        return self._in_exact_colour(cube, jnp.asarray(rgb, cube.dtype)) if self.exact_colour else cube

    def _in_exact_colour(self, cube: Float[Array, "B H W S"], rgb: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        shapes = (self.num_bands, 3), (3, self.num_bands)
        matrix, inverse = (
            jax.lax.stop_gradient(self.param(name, nn.initializers.zeros, shape, jnp.float32)).astype(cube.dtype)
            for name, shape in zip(COLOURS, shapes, strict=True)
        )
        precision = jax_precision(self.matmul_precision)
        lacks = rgb - jnp.matmul(cube, matrix, precision=precision)
        lacks = jnp.where(rgb >= CLIPPED_LIGHT, jnp.maximum(lacks, 0), lacks)
        lacks = jnp.where(rgb <= 0, jnp.minimum(lacks, 0), lacks)
        return cube + jnp.matmul(lacks, inverse, precision=precision)


def _brightness(
    rgb: Num[Array | np.ndarray, "B H W C"], mean_square: Float[Array, ""] | None
) -> Float[Array, "B 1 1 1"]:
    """Returns the root mean square of each image, at least `DARK`."""
    squares = jnp.square(jnp.asarray(rgb, jnp.promote_types(jnp.asarray(rgb).dtype, jnp.float32)))
    means = squares.mean((1, 2, 3), keepdims=True)
    return jnp.maximum(jnp.sqrt(means if mean_square is None else jnp.full_like(means, mean_square)), DARK)


def _regression(
    module: PlainRegression | WithBase, rgb: Float[Array, "B H W 3"], param_dtype: Dtype
) -> Float[Array, "B H W S"]:
    terms = terms_of(module.base)
    shape = (len(terms), module.num_bands)
    weights = jax.lax.stop_gradient(module.param(COEFFICIENTS, nn.initializers.zeros, shape, param_dtype))
    precision = jax_precision(module.matmul_precision)
    return jnp.matmul(features(rgb, terms), weights.astype(rgb.dtype), precision=precision)


def bare_network(model: nn.Module) -> nn.Module:
    """Returns the network of a `WithBase`, any other model as it is."""
    return model.network if isinstance(model, WithBase) else model


def with_regression(params: dict[str, Any], fitted: Regression) -> dict[str, Any]:
    """Returns the parameters of a `WithBase` or `PlainRegression` with the coefficients of a fit."""
    return params | {COEFFICIENTS: jnp.asarray(fitted.coefficients, jnp.float32)}


def with_colours(params: dict[str, Any], matrix: Float[np.ndarray, "S 3"]) -> dict[str, Any]:
    """Returns the parameters of a `WithBase` of exact colour, with `m3sr_jax.data.colorimetry.srgb_matrix`."""
    arrays = matrix, np.linalg.pinv(matrix)
    return params | {name: jnp.asarray(array, jnp.float32) for name, array in zip(COLOURS, arrays, strict=True)}


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
