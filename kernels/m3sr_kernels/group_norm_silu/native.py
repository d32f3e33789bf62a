"""`group_norm_silu` on a CPU by compiled kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from m3sr_kernels.group_norm_silu.reference import reference_group_norm_silu
from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable

MIN_CHANNELS = 16  # the widest vector's lanes


def unsupported(x: jax.Array, *rest: jax.Array) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    del rest
    return f"fewer than {MIN_CHANNELS} channels" if x.shape[-1] < MIN_CHANNELS else None


@functools.partial(jax.jit, static_argnames=("num_groups", "epsilon", "strict"))
def native_group_norm_silu(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array,
    *,
    num_groups: int,
    epsilon: float,
    strict: bool,
) -> jax.Array:
    """Arguments and result as `group_norm_silu`. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    arrays = (array.astype(jnp.float32) for array in (x, scale, bias, shortcut))
    return _norm(num_groups, epsilon)(strict, *arrays)[0].astype(x.dtype)


@functools.cache
def _norm(num_groups: int, epsilon: float) -> Callable:
    """The op as a differentiable function."""

    def lines(image: jax.Array) -> jax.Array:
        return image.reshape(image.shape[0], -1, image.shape[-1])

    def forward(x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array) -> list[jax.Array]:
        line = lines(x)
        arrays = line, scale, bias, lines(shortcut)
        (y,) = ffi_call("group_norm_silu", "forward", (num_groups, epsilon), [line.shape], *arrays)
        return [y.reshape(x.shape)]

    def backward(x: jax.Array, scale: jax.Array, bias: jax.Array, _, cotangent: jax.Array) -> list[jax.Array]:
        line = lines(x)
        shapes, arrays = [line.shape, scale.shape, bias.shape], (line, scale, bias, lines(cotangent))
        dx, dscale, dbias = ffi_call("group_norm_silu", "backward", (num_groups, epsilon), shapes, *arrays)
        return [dx.reshape(x.shape), dscale, dbias, cotangent]

    def xla(*arrays: jax.Array) -> list[jax.Array]:
        return [reference_group_norm_silu(*arrays, num_groups=num_groups, epsilon=epsilon)]

    return differentiable(forward, backward, xla)
