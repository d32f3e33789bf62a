"""The definition, which XLA compiles to a few passes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype


def reference_layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, *, epsilon: float) -> jax.Array:
    """Arguments and result as `layer_norm`."""
    wide = accumulation_dtype(x, scale, bias)
    by_channel = [array.astype(wide).reshape((1,) * (x.ndim - 1) + (-1,)) for array in (scale, bias)]
    return (normed_over_channels(x.astype(wide), epsilon) * by_channel[0] + by_channel[1]).astype(x.dtype)


def normed_over_channels(x: Float[Array, "*shape C"], epsilon: float) -> Float[Array, "*shape C"]:
    """Computes (x − mean)/√(variance + ε) with mean and biased variance over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
