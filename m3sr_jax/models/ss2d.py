"""SS2D: a selective scan of an image in four directions, with one decay per head as in Mamba-2."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from m3sr_kernels import Implementation, depthwise_conv_silu, ss2d_scan

from m3sr_jax.models.layers import (
    Layer,
    LayerNorm,
    dense,
    layer_implementation,
    linear_init,
    pixel_product,
    statistics_dtype,
    uniform_fan_in,
)

DIRECTIONS = 4
STATE_SIZE = 8


def num_heads(model_width: int) -> int:
    """Returns R, heads per direction of an SS2D of width E: the largest divisor of 2·E that is at most ⌈E/16⌉.

    That is ⌈E/16⌉ itself wherever it divides 2·E, as in the release (E = 31·2^k).
    """
    limit = -(-model_width // 16)
    return max(heads for heads in range(1, limit + 1) if 2 * model_width % heads == 0)


def project_directions(
    x: Float[Array, "B H W I"], weight: Float[Array, "K J I"], heads: int
) -> tuple[Float[Array, "B H W K R"], Float[Array, "B H W K N"], Float[Array, "B H W K N"]]:
    """Computes [δ, B, C] = W_k·x for every pixel and direction.

    Only the scan depends on the order of the pixels, so one matrix product in pixel order serves all directions.

    Args:
      x: image (B, H, W, I).
      weight: (K, R+2N, I), one matrix per direction.
      heads: R.

    Returns:
      dt (B, H, W, K, R) before bias and softplus, b and c (B, H, W, K, N).

    Source: paper section on the spatial branch; the cross-scan is VMamba's (Liu et al., 2024).
    """
    matrix, wide = weight.reshape(-1, weight.shape[2]).T, statistics_dtype(x.dtype)
    projected = pixel_product(x, matrix, preferred_element_type=wide).reshape(*x.shape[:3], *weight.shape[:2])
    states = (weight.shape[1] - heads) // 2
    dt, b, c = jnp.split(projected, (heads, heads + states), axis=-1)
    return dt, b, c


class SS2D(Layer):
    """Mixes pixels along rows and columns, both ways: project, depthwise 3×3, SiLU, scan, norm, project."""

    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        width = x.shape[-1]
        project = partial(dense, use_bias=False, kernel_init=linear_init, **self.types)
        x = project(2 * width, name="in_proj")(x)
        kernel = self.param("conv_kernel", uniform_fan_in(9), (3, 3, 2 * width), self.param_dtype)
        implementation = layer_implementation(self.implementation)
        x = depthwise_conv_silu(x, kernel.astype(self.dtype), implementation=implementation)
        y = LayerNorm(1e-5, self.implementation, **self.types, name="out_norm")(self._scan(x))
        return project(width, name="out_proj")(y)

    def _scan(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W I"]:
        inner, ones = x.shape[-1], nn.initializers.ones
        heads = num_heads(inner // 2)
        weight = self.param(
            "x_proj", uniform_fan_in(inner), (DIRECTIONS, heads + 2 * STATE_SIZE, inner), self.param_dtype
        )
        a_log = self.param("a_log", nn.initializers.zeros, (DIRECTIONS, heads), self.param_dtype)
        d = self.param("d", ones, (DIRECTIONS, heads, inner // heads), self.param_dtype)
        dt_bias = self.param("dt_bias", nn.initializers.uniform(0.1), (DIRECTIONS, heads), self.param_dtype)
        dt, b, c = project_directions(x, weight.astype(self.dtype), heads)
        return ss2d_scan(x, dt, -jnp.exp(a_log), b, c, d, dt_bias, implementation=self.implementation)


class ResidualSS2D(Layer):
    """Computes x + SS2D(LayerNorm(x)), the spatial branch and the core of the frequency branch."""

    epsilon: float
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        normed = LayerNorm(self.epsilon, self.implementation, **self.types, name="norm")(x)
        return x + SS2D(self.implementation, **self.types, name="ss2d")(normed)
