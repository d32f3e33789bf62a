"""The recurrence by `lax.associative_scan`: logarithmic depth, but every state is in memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.linear_recurrence import linear_recurrence


def associative_ssd_scan(
    x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `reference_ssd_scan`; holds (B, L, R, P, N) states."""
    heads_per_group = x.shape[2] // b.shape[2]
    b, c = (jnp.repeat(array, heads_per_group, axis=2)[:, :, :, None] for array in (b, c))
    decay = jnp.exp(dt * a[None, None])[..., None, None]
    states = linear_recurrence(decay, (dt[..., None] * x)[..., None] * b, axis=1)
    return jnp.sum(states * c, axis=-1), states[:, -1]
