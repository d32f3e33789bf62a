"""`depthwise_conv_silu` on a CPU by compiled kernels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from m3sr_kernels.depthwise_conv_silu.xla import xla_depthwise_conv_silu
from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable

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
    return _convolve(strict, x.astype(jnp.float32), kernel.astype(jnp.float32))[0].astype(x.dtype)


def _forward(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return ffi_call("depthwise_conv_silu", "forward", (), [x.shape], x, kernel)


def _backward(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> list[jax.Array]:
    return ffi_call("depthwise_conv_silu", "backward", (), [x.shape, kernel.shape], x, kernel, cotangent)


def _xla(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return [xla_depthwise_conv_silu(x, kernel)]


_convolve = differentiable(_forward, _backward, _xla)
