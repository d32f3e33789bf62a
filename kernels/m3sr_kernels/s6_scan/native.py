"""`s6_scan` on a CPU by compiled kernels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable, more_states, whole_vectors

LOG2_E = 1.4426950408889634


def unsupported(x, dt, a, b, *_) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    return more_states(b)


@functools.partial(jax.jit, static_argnames="strict")
def native_s6_scan(x, dt, a, b, c, d, z, dt_bias, *, strict: bool) -> jax.Array:
    """Arguments and result as `s6_scan`; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    none = jnp.zeros(x.shape[2:], jnp.float32)
    arrays = [x, dt, b, c, a, none if d is None else d, none if dt_bias is None else dt_bias]
    arrays += [] if z is None else [z]
    return _scan(strict, *[array.astype(jnp.float32) for array in arrays])[0].astype(x.dtype)


def _layout(x, dt, b, c, a, d, dt_bias, *gate: jax.Array) -> list[jax.Array]:
    """The arguments as the kernels take them: parameters padded, rates of powers of two with the states first."""
    parameters = [whole_vectors(parameter, -1) for parameter in (LOG2_E * a.T, d, dt_bias)]
    return [x, dt, b, c, *parameters, *gate]


def _sizes(arrays: tuple[jax.Array, ...]) -> tuple[int, int]:
    """What is compiled in: states, and whether there is a gate."""
    return arrays[4].shape[1], int(len(arrays) > 7)


def _forward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call("s6_scan", "forward", _sizes(arrays), [arrays[0].shape], *_layout(*arrays))


def _backward(*arrays: jax.Array) -> list[jax.Array]:
    *inputs, cotangent = arrays
    laid = _layout(*inputs)
    shapes = [array.shape for array in laid]
    by_x, by_dt, by_b, by_c, by_a, by_d, by_bias, *by_gate = ffi_call(
        "s6_scan", "backward", _sizes(tuple(inputs)), shapes, *laid, cotangent
    )
    D = by_x.shape[-1]
    return [by_x, by_dt, by_b, by_c, by_a.T[:D], by_d[:D], by_bias[:D], *by_gate]


def _xla(x, dt, b, c, a, d, dt_bias, *gate: jax.Array) -> list[jax.Array]:
    from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS

    return [IMPLEMENTATIONS["xla"](x, dt, a, b, c, d, gate[0] if gate else None, dt_bias)]


_scan = differentiable(_forward, _backward, _xla)
