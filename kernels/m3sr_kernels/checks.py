"""Checks of arguments, whose errors name the argument, what was found and what was expected."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def check_axes(op: str, **arguments: tuple[jax.Array, int]) -> None:
    """Checks each `name=(array, number of axes)`.

    Raises:
      ValueError: a number differs.
    """
    for name, (array, axes) in arguments.items():
        if array.ndim != axes:
            raise ValueError(f"{op}: {name} has shape {array.shape}, expected {axes} axes")


def check_shapes(op: str, **arguments: tuple[jax.Array | None, tuple[Any, ...]]) -> None:
    """Checks each `name=(array, expected shape)`; None arrays pass. Sizes may be symbolic (`jax.export`).

    Raises:
      ValueError: a shape differs.
      TypeError: an array is not floating-point.
    """
    for name, (array, expected) in arguments.items():
        if array is None:
            continue
        if array.shape != expected:
            raise ValueError(f"{op}: {name} has shape {array.shape}, expected {expected}")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{op}: {name} has dtype {array.dtype}, expected a floating-point one")


def accumulation_dtype(*arrays: jax.Array | None) -> jnp.dtype:
    """float64 when any input is, else float32: states and sums are never kept in half precision."""
    wide = any(array is not None and array.dtype == jnp.float64 for array in arrays)
    return jnp.dtype(jnp.float64 if wide else jnp.float32)
