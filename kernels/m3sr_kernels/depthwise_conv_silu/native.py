"""`depthwise_conv_silu` on a CPU by compiled kernels."""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp

from m3sr_kernels.depthwise_conv_silu.xla import xla_depthwise_conv_silu
from m3sr_kernels.native.call import ffi_call, native_call, register

MIN_CHANNELS = 16  # the widest vector's lanes


def unsupported(x: jax.Array, kernel: jax.Array) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    del kernel
    return f"fewer than {MIN_CHANNELS} channels" if x.shape[-1] < MIN_CHANNELS else None


@functools.partial(jax.jit, static_argnames="strict")
def native_depthwise_conv_silu(x: jax.Array, kernel: jax.Array, *, strict: bool) -> jax.Array:
    """Arguments and result as `depthwise_conv_silu`; computes in float32. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    wide = (x.astype(jnp.float32), kernel.astype(jnp.float32))
    return cast(jax.Array, _convolve(strict, *wide)).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(strict: bool, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return native_call(_forward, _forward_xla, [x.shape], x, kernel, strict=strict)[0]


def _convolve_fwd(strict: bool, x: jax.Array, kernel: jax.Array):
    return _convolve(strict, x, kernel), (x, kernel)


def _convolve_bwd(strict: bool, inputs: tuple[jax.Array, jax.Array], cotangent: jax.Array):
    shapes = [array.shape for array in inputs]
    return tuple(native_call(_backward, _backward_xla, shapes, *inputs, cotangent, strict=strict))


_convolve.defvjp(_convolve_fwd, _convolve_bwd)


def _forward_xla(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return [xla_depthwise_conv_silu(x, kernel)]


def _backward_xla(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> list[jax.Array]:
    return list(jax.vjp(xla_depthwise_conv_silu, x, kernel)[1](cotangent))


def _forward(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return ffi_call(_handler("forward"), [x.shape], x, kernel)


def _backward(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> list[jax.Array]:
    return ffi_call(_handler("backward"), [x.shape, kernel.shape], x, kernel, cotangent)


@functools.cache
def _handler(which: str) -> str:
    from m3sr_kernels.depthwise_conv_silu import native_kernels as kernels
    from m3sr_kernels.native.ffi import add_handler

    name = f"m3sr_depthwise_conv_silu_{which}"
    kernel = {"forward": kernels.Forward, "backward": kernels.Backward}[which]()
    register(name, functools.partial(add_handler, name=name, kernel=kernel))
    return name
