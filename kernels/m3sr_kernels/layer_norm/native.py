"""`layer_norm` on a CPU by compiled kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from m3sr_kernels.layer_norm.reference import reference_layer_norm
from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable

MIN_SIZE = 16  # the widest vector's lanes


def unsupported(x: jax.Array, scale: jax.Array, bias: jax.Array) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    del scale, bias
    few = x.shape[-1] < MIN_SIZE or x.size // x.shape[-1] < MIN_SIZE
    return f"fewer than {MIN_SIZE} channels or pixels" if few else None


@functools.partial(jax.jit, static_argnames=("epsilon", "strict"))
def native_layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, *, epsilon: float, strict: bool) -> jax.Array:
    """Arguments and result as `layer_norm`. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    rows, *rest = (array.astype(jnp.float32) for array in (x.reshape(-1, x.shape[-1]), scale, bias))
    return _norm(epsilon)(strict, rows, *rest)[0].reshape(x.shape).astype(x.dtype)


@functools.cache
def _norm(epsilon: float) -> Callable:
    """The norm as a differentiable function."""

    def forward(x: jax.Array, *params: jax.Array) -> list[jax.Array]:
        return ffi_call("layer_norm", "forward", (epsilon,), [x.shape], x, *params)

    def backward(x: jax.Array, scale: jax.Array, bias: jax.Array, cotangent: jax.Array) -> list[jax.Array]:
        shapes = [x.shape, scale.shape, bias.shape]
        return ffi_call("layer_norm", "backward", (epsilon,), shapes, x, scale, bias, cotangent)

    def xla(*arrays: jax.Array) -> list[jax.Array]:
        return [reference_layer_norm(*arrays, epsilon=epsilon)]

    return differentiable(forward, backward, xla)
