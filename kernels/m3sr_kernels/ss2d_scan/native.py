"""`ss2d_scan` on a CPU by compiled kernels."""

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
def native_ss2d_scan(x, dt, a, b, c, d, dt_bias, *, strict: bool) -> jax.Array:
    """Arguments and result as `ss2d_scan`; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    skips = d.astype(jnp.float32).sum(0)  # a sum in the inputs' bfloat16 would round twice
    wide = [array.astype(jnp.float32) for array in (x, dt, a, b, c, skips, dt_bias)]
    return _scan(strict, *wide)[0].astype(x.dtype)


def _forward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call("ss2d_scan", "forward", arrays[3].shape[-1:], [arrays[0].shape], *arrays)


def _backward(*arrays: jax.Array) -> list[jax.Array]:
    shapes = [array.shape for array in arrays[:-1]]
    return ffi_call("ss2d_scan", "backward", arrays[3].shape[-1:], shapes, *arrays)


def _xla(x, dt, a, b, c, d, dt_bias) -> list[jax.Array]:
    from m3sr_kernels.ss2d_scan.api import IMPLEMENTATIONS

    quarter = jnp.broadcast_to(d[None] / 4, (4, *d.shape))
    return [IMPLEMENTATIONS["xla"](x, dt, a, b, c, quarter, dt_bias)]


_scan = differentiable(_forward, _backward, _xla)
