"""The definition: one plain loop over time."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def s6_scan_reference(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """h_t = exp(Δ_t·a)·h_{t−1} + Δ_t·b_t·x_t, y_t = Σ_n c_t·h_t; dt is Δ already, (B, L, D)."""

    def step(state, inputs):
        x_t, dt_t, b_t, c_t = inputs
        state = jnp.exp(dt_t[..., None] * a[None]) * state + (dt_t * x_t)[..., None] * b_t[:, None]
        return state, jnp.sum(state * c_t[:, None], axis=-1)

    start = jnp.zeros((x.shape[0], *a.shape), x.dtype)
    _, y = jax.lax.scan(step, start, tuple(jnp.moveaxis(array, 1, 0) for array in (x, dt, b, c)))
    return jnp.moveaxis(y, 0, 1)
