"""`ss2d_scan` on a CPU by compiled kernels."""

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
def native_ss2d_scan(
    x: jax.Array,
    dt: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    d: jax.Array,
    dt_bias: jax.Array,
    *,
    strict: bool,
) -> jax.Array:
    """Arguments and result as `ss2d_scan`; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    skips = d.astype(jnp.float32).sum(0)  # a sum in the inputs' bfloat16 would round twice
    wide = [array.astype(jnp.float32) for array in (x, dt, a, b, c, skips, dt_bias)]
    return cast(jax.Array, _scan(strict, *wide)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(strict: bool, *arrays: jax.Array) -> jax.Array:
    return native_call(_forward, _forward_xla, [arrays[0].shape], *arrays, strict=strict)[0]


def _scan_fwd(strict: bool, *arrays: jax.Array):
    return _scan(strict, *arrays), arrays


def _scan_bwd(strict: bool, arrays: tuple[jax.Array, ...], cotangent: jax.Array):
    shapes = [array.shape for array in arrays]
    return tuple(native_call(_backward, _backward_xla, shapes, *arrays, cotangent, strict=strict))


_scan.defvjp(_scan_fwd, _scan_bwd)


def _forward_xla(x, dt, a, b, c, d, dt_bias) -> list[jax.Array]:
    from m3sr_kernels.ss2d_scan.api import IMPLEMENTATIONS

    quarter = jnp.broadcast_to(d[None] / 4, (4, *d.shape))
    return [IMPLEMENTATIONS["xla"](x, dt, a, b, c, quarter, dt_bias)]


def _backward_xla(*arrays: jax.Array) -> list[jax.Array]:
    *primals, cotangent = arrays
    return list(jax.vjp(lambda *inputs: _forward_xla(*inputs)[0], *primals)[1](cotangent))


def _forward(*arrays: jax.Array) -> list[jax.Array]:
    return ffi_call(_handler("forward", arrays[3].shape[-1]), [arrays[0].shape], *arrays)


def _backward(*arrays: jax.Array) -> list[jax.Array]:
    shapes = [array.shape for array in arrays[:-1]]
    return ffi_call(_handler("backward", arrays[3].shape[-1]), shapes, *arrays)


@functools.cache
def _handler(which: str, states: int) -> str:
    from m3sr_kernels.native import ffi, scan, scan_gradient
    from m3sr_kernels.ss2d_scan.native_kernels import Image

    name = f"m3sr_ss2d_scan_{which}_{states}"
    if which == "forward":
        kernel = scan.Forward(Image(), states, {"y": "B H W I"})
    else:
        gradients = {f"d{argument}": shape for argument, shape in Image.inputs.items()}
        kernel = scan_gradient.Backward(Image(), states, {"dy": "B H W I"}, gradients)
    register(name, functools.partial(ffi.add_handler, name=name, kernel=kernel))
    return name
