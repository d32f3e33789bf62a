"""A network that sees one pixel at a time: what RGB alone, without its surroundings, can tell."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.image import check_image
from m3sr_jax.models.layers import statistics_dtype


class Pixel(nn.Module):
    """Two 1×1 layers with SiLU on RGB and its square and cube roots, then a 1×1 layer to `num_bands` bands, no clamp.

    Roots spread the dark values, where spectra differ most between pixels of nearly equal RGB. The last layer starts
    near zero.

    Attributes:
      num_bands: S, bands of the output.
      width: units of each hidden layer.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_bands: int = 31
    width: int = 64
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, num_bands), of any size.

        Raises:
          ValueError: there are not three channels, or the values are integers.
        """
        x = check_image("the pixel network", rgb, 1, self.dtype)
        positive = jnp.maximum(x, jnp.zeros_like(x))
        y = jnp.concatenate([x, jnp.sqrt(positive), jnp.cbrt(positive)], -1)
        types: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for layer in range(2):
            hidden = nn.Dense(self.width, kernel_init=nn.initializers.he_normal(), name=f"hidden_{layer}", **types)
            y = nn.silu(hidden(y))
        last = nn.initializers.normal(0.01 * (2 / self.width) ** 0.5)
        y = nn.Dense(self.num_bands, kernel_init=last, name="bands", **types)(y)
        return y.astype(statistics_dtype(self.dtype))
