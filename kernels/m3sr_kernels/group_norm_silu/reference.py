"""The definition, which XLA compiles to a few passes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype


def reference_group_norm_silu(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array, *, num_groups: int, epsilon: float
) -> jax.Array:
    """Arguments and result as `group_norm_silu`."""
    wide = accumulation_dtype(x, scale, bias, shortcut)
    scale, bias = (array.astype(wide)[None, None, None] for array in (scale, bias))
    normed = normed_over_groups(x.astype(wide), num_groups, epsilon) * scale + bias
    return (jax.nn.silu(normed) + shortcut.astype(wide)).astype(x.dtype)


def normed_over_groups(x: Float[Array, "B H W C"], num_groups: int, epsilon: float) -> Float[Array, "B H W C"]:
    """Computes (x − mean)/√(variance + ε) with mean and biased variance over H, W and the C/G channels of a group."""
    batch, height, width, channels = x.shape
    grouped = x.reshape(batch, height * width, num_groups, channels // num_groups)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 3), keepdims=True) + epsilon)
    return normed.reshape(x.shape)
