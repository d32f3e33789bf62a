"""`ssd_scan` on a CPU by compiled kernels."""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp

from m3sr_kernels.native.call import ffi_call, native_call, register

MAX_STATES = 64


def unsupported(x, dt, a, b, c, d, dt_bias) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    del x, dt, a, c, d, dt_bias
    return f"more than {MAX_STATES} states" if b.shape[-1] > MAX_STATES else None


@functools.partial(jax.jit, static_argnames="strict")
def native_ssd_scan(
    x: jax.Array,
    dt: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    d: jax.Array | None,
    dt_bias: jax.Array | None,
    *,
    strict: bool,
) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `ssd_scan` with its last state; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    d = jnp.zeros(x.shape[2:], jnp.float32) if d is None else d
    dt_bias = jnp.zeros(a.shape, jnp.float32) if dt_bias is None else dt_bias
    wide = [array.astype(jnp.float32) for array in (x, dt, a, b, c, d, dt_bias)]
    y, state = cast(tuple[jax.Array, jax.Array], _scan(strict, *wide))
    return y.astype(x.dtype), state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(strict: bool, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    y, state = native_call(_forward, _forward_xla, _result_shapes(*arrays), *arrays, strict=strict)
    return y, state


def _scan_fwd(strict: bool, *arrays: jax.Array):
    return _scan(strict, *arrays), arrays


def _scan_bwd(strict: bool, arrays: tuple[jax.Array, ...], cotangents: tuple[jax.Array, jax.Array]):
    shapes = [array.shape for array in arrays]
    return tuple(native_call(_backward, _backward_xla, shapes, *arrays, *cotangents, strict=strict))


_scan.defvjp(_scan_fwd, _scan_bwd)


def _result_shapes(x, dt, a, b, c, d, dt_bias) -> list[tuple[int, ...]]:
    B, _, R, P = x.shape
    return [x.shape, (B, R, P, b.shape[-1])]


def _forward_xla(*arrays: jax.Array) -> list[jax.Array]:
    from m3sr_kernels.ssd_scan.api import IMPLEMENTATIONS

    return list(IMPLEMENTATIONS["xla"](*arrays))


def _backward_xla(*arrays: jax.Array) -> list[jax.Array]:
    *primals, by_y, by_state = arrays
    return list(jax.vjp(lambda *inputs: _forward_xla(*inputs), *primals)[1]([by_y, by_state]))


def _forward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call(_handler("forward", arrays[3].shape[-1]), _result_shapes(*arrays), *arrays)


def _backward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call(_handler("backward", arrays[3].shape[-1]), [array.shape for array in arrays[:-2]], *arrays)


@functools.cache
def _handler(which: str, states: int) -> str:
    from m3sr_kernels.native.ffi import add_handler
    from m3sr_kernels.ssd_scan.native_kernels import Backward, Forward

    name = f"m3sr_ssd_scan_{which}_{states}"
    kernel = {"forward": Forward, "backward": Backward}[which](states)
    register(name, functools.partial(add_handler, name=name, kernel=kernel))
    return name
