"""The precision of matrix products in code that JAX traces after the call: gradients, and code for other platforms.

`jax.default_matmul_precision` is a context. JAX may trace the rules of a `custom_vjp` or a primitive when that context
is gone, so they take along what it said.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


def current() -> str | None:
    """What `jax.default_matmul_precision` says here; None is the platform's default."""
    return jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]


@functools.cache
def at_precision(function: Callable, precision: str | None) -> Callable:
    """`function` with its products at a precision; the same object each time, which JAX's caches recognise."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*arguments)

    return run
