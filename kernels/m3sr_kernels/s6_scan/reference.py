"""The definition: a plain loop over time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def reference_s6_scan(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """h_t = exp(Δ_t·a)·h_{t−1} + Δ_t·b_t·x_t, y_t = Σ_n c_t·h_t.

    Arguments and result as `s6_scan`, but dt is Δ, after bias and softplus.
    """
    start = jnp.zeros((x.shape[0], *a.shape), x.dtype)
    _, y = jax.lax.scan(functools.partial(step, a), start, tuple(jnp.moveaxis(array, 1, 0) for array in (x, dt, b, c)))
    return jnp.moveaxis(y, 0, 1)


def step(a: jax.Array, state: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """One token of the loop: from the state before it, x_t, Δ_t, b_t and c_t to the state after it and y_t."""
    x_t, dt_t, b_t, c_t = inputs
    state = jnp.exp(dt_t[..., None] * a[None]) * state + (dt_t * x_t)[..., None] * b_t[:, None]
    return state, jnp.sum(state * c_t[:, None], axis=-1)
