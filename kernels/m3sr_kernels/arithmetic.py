"""Formulas that kernels spell out, because neither Pallas backend lowers jax's own."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def softplus(x: jax.Array, log1p: Callable[[jax.Array], jax.Array] = jnp.log1p) -> jax.Array:
    """ln(1 + eˣ) without overflow."""
    return jnp.maximum(x, 0) + log1p(jnp.exp(-jnp.abs(x)))


def sigmoid(x: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.exp(-x))


def divide(dividend: jax.Array, divisor: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder of non-negative integers."""
    quotient = jax.lax.div(dividend, jnp.full_like(dividend, divisor))
    return quotient, dividend - quotient * divisor
