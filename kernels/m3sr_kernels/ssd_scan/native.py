"""`ssd_scan` on a CPU by compiled kernels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable, more_states


def unsupported(x, dt, a, b, *_) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    return more_states(b)


@functools.partial(jax.jit, static_argnames="strict")
def native_ssd_scan(x, dt, a, b, c, d, dt_bias, *, strict: bool) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `ssd_scan` with its last state; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    d = jnp.zeros(x.shape[2:], jnp.float32) if d is None else d
    dt_bias = jnp.zeros(a.shape, jnp.float32) if dt_bias is None else dt_bias
    y, state = _scan(strict, *[array.astype(jnp.float32) for array in (x, dt, a, b, c, d, dt_bias)])
    return y.astype(x.dtype), state


def _forward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call("ssd_scan", "forward", arrays[3].shape[-1:], _result_shapes(*arrays), *arrays)


def _backward(*arrays: jax.Array) -> list[jax.Array]:
    shapes = [array.shape for array in arrays[:-2]]
    return ffi_call("ssd_scan", "backward", arrays[3].shape[-1:], shapes, *arrays)


def _result_shapes(x, dt, a, b, c, d, dt_bias) -> list[tuple[int, ...]]:
    B, _, R, P = x.shape
    return [x.shape, (B, R, P, b.shape[-1])]


def _xla(*arrays: jax.Array) -> list[jax.Array]:
    from m3sr_kernels.ssd_scan.api import IMPLEMENTATIONS

    return list(IMPLEMENTATIONS["xla"](*arrays))


_scan = differentiable(_forward, _backward, _xla, _result_shapes, results=2)
