"""The definition: a plain loop over time."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def reference_ssd_scan(
    x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """h_t = exp(Δ_t·a)·h_{t−1} + Δ_t·b_t ⊗ x_t, y_t = Σ_n c_t·h_t.

    Arguments as `ssd_scan`, but dt is Δ, after bias and softplus. Returns y and the last state (B, R, P, N).
    """
    heads_per_group = x.shape[2] // b.shape[2]
    b, c = (jnp.repeat(array, heads_per_group, axis=2) for array in (b, c))

    def step(state, inputs):
        x_t, dt_t, b_t, c_t = inputs
        decay = jnp.exp(dt_t * a[None])[..., None, None]
        state = decay * state + (dt_t[..., None] * x_t)[..., None] * b_t[:, :, None]
        return state, jnp.sum(state * c_t[:, :, None], axis=-1)

    start = jnp.zeros((x.shape[0], *x.shape[2:], b.shape[-1]), x.dtype)
    state, y = jax.lax.scan(step, start, tuple(jnp.moveaxis(array, 1, 0) for array in (x, dt, b, c)))
    return jnp.moveaxis(y, 0, 1), state
