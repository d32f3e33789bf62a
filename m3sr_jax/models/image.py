"""From an image to a cube: what every network requires of an image, how it pads it, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Num

from m3sr_jax.config.names import MatmulPrecision
from m3sr_jax.models.layers import Layer, conv, statistics_dtype, uniform_fan_in
from m3sr_jax.models.precision import jax_precision


class ImageNetwork(Layer, kw_only=True):
    """RGB in [0, 1] to `num_bands` bands. A network of its own defines `reconstruct`, a compact method.

    Attributes:
      num_bands: S, bands of the output.
      matmul_precision: of matrix products and convolutions on a GPU, "float32" or "tf32", whatever JAX is set to. A
        network that computes in bfloat16 keeps the platform's default.
    """

    TITLE: ClassVar[str]
    MIN_SIZE: ClassVar[int] = 1  # of H and W, in pixels
    MULTIPLE: ClassVar[int] = 1  # H and W must divide by it inside

    num_bands: int = 31
    matmul_precision: MatmulPrecision = "float32"

    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, num_bands), H and W at least `MIN_SIZE`.

        The output is float32 or wider, in the unit of the cubes the network was trained on.

        Raises:
          ValueError: H or W is below `MIN_SIZE`, there are not three channels, or the values are integers.
        """
        image = check_image(self.TITLE, rgb, self.MIN_SIZE, self.dtype)
        half, precision = jnp.finfo(self.dtype).bits < 32, jax_precision(self.matmul_precision)
        with jax.default_matmul_precision("default" if half else precision):
            if self.MULTIPLE == 1:
                cube = self.reconstruct(image)
            else:
                cube = self.reconstruct(reflect_to_multiple(image, self.MULTIPLE))[:, : rgb.shape[1], : rgb.shape[2]]
        return cube.astype(statistics_dtype(self.dtype))

    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        """Computes the cube of an image in the type of the computation, with sides that `MULTIPLE` divides."""
        raise NotImplementedError


def check_image(
    name: str, rgb: Num[Array | np.ndarray, "B H W C"], min_size: int, dtype: Dtype
) -> Float[Array, "B H W C"]:
    """Returns the image in the network's type.

    Args:
      name: the network's name, for messages.
      rgb: (B, H, W, 3), RGB in [0, 1].
      min_size: smallest H and W that the network takes, in pixels.
      dtype: type of the computation.

    Raises:
      ValueError: H or W is below `min_size`, there are not three channels, or the values are integers.
    """
    if rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise ValueError(f"{name} takes images of shape (B, H, W, 3), got {rgb.shape}")
    if any(side < min_size for side in rgb.shape[1:3]):  # min() would compare the sides, which may be symbolic
        size = f"{rgb.shape[1]}×{rgb.shape[2]}"
        raise ValueError(f"{name} takes images of at least {min_size}×{min_size} pixels, got H×W = {size}")
    if not jnp.issubdtype(rgb.dtype, jnp.floating):
        raise ValueError(f"{name} takes RGB in [0, 1] as floating-point numbers, got {rgb.dtype}: scale it first")
    return jnp.asarray(rgb, dtype)


def reflect_to_multiple(image: Float[Array, "B H W C"], multiple: int) -> Float[Array, "B h w C"]:
    """Pads bottom and right by reflection, edge pixels not repeated, until `multiple` divides H and W."""
    _, height, width, _ = image.shape
    return jnp.pad(image, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def pad_edges(x: Float[Array, "B H W C"], margin: int) -> Float[Array, "B h w C"]:
    """Repeats the edge pixels `margin` times on every side.

    Without a margin it does not call `jnp.pad`, whose gradient would copy the image four times.
    """
    widths = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    return jnp.pad(x, widths, mode="edge") if margin else x


class EdgeConv(Layer):
    """Applies `activation` to a convolution with bias of an image that is padded with its edge pixels.

    Attributes:
      features: channels out.
      size: side of the kernel.
      activation: of each value.
      kernel_init: size²·(channels in) → the kernel's initialiser.
    """

    features: int
    size: int
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Callable[[int], Initializer] = uniform_fan_in

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        inputs = x.shape[-1]
        fields = {"use_bias": True, "kernel_init": self.kernel_init(self.size**2 * inputs), **self.types}
        convolve = conv(self.features, inputs, self.size, padding=0, name="conv", **fields)
        return self.activation(convolve(pad_edges(x, self.size // 2)))
