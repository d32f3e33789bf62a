"""A network that sees one pixel at a time: what RGB alone, without its surroundings, can tell."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import dense


class Pixel(ImageNetwork):
    """Two 1×1 layers with SiLU on RGB and its square and cube roots, then a 1×1 layer to `num_bands` bands, no clamp.

    Roots spread the dark values, where spectra differ most between pixels of nearly equal RGB. The last layer starts
    near zero.

    Attributes:
      width: units of each hidden layer.
    """

    TITLE = "the pixel network"

    width: int = 64

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        positive = jnp.maximum(image, jnp.zeros_like(image))
        y = jnp.concatenate([image, jnp.sqrt(positive), jnp.cbrt(positive)], -1)
        for layer in range(2):
            hidden = dense(self.width, kernel_init=nn.initializers.he_normal(), name=f"hidden_{layer}", **self.types)
            y = nn.silu(hidden(y))
        last = nn.initializers.normal(0.01 * (2 / self.width) ** 0.5)
        return dense(self.num_bands, kernel_init=last, name="bands", **self.types)(y)
