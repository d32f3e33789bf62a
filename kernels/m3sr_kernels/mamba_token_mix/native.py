"""`mamba_token_mix` on a CPU by compiled kernels: weights padded and laid out for them, gradients taken apart."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.mamba_token_mix.xla import xla_mamba_token_mix
from m3sr_kernels.native.call import ffi_call
from m3sr_kernels.native.differentiable import differentiable, whole_vectors

Arrays = Mapping[Any, jax.Array]
NAMES = ("in_proj", "conv_kernel", "conv_bias", "x_proj", "dt_proj", "dt_bias", "a_log", "d", "out_proj")
MAX_TOKENS, MAX_TAPS = 16, 8  # tokens are unrolled


def unsupported(tokens: jax.Array, params: Arrays) -> str | None:
    """What keeps these arguments from the kernels; None if nothing does."""
    if tokens.shape[1] > MAX_TOKENS or params["conv_kernel"].shape[0] > MAX_TAPS:
        return f"more than {MAX_TOKENS} tokens or {MAX_TAPS} taps"
    return None


@functools.partial(jax.jit, static_argnames="strict")
def native_mamba_token_mix(tokens: jax.Array, params: Arrays, *, strict: bool) -> jax.Array:
    """Arguments and result as `mamba_token_mix`; computes in float32 throughout. `strict` as in `native_call`.

    The gradient keeps the inputs alone.
    """
    wide = [params[name].astype(jnp.float32) for name in NAMES]
    return _mix(strict, tokens.astype(jnp.float32), *wide)[0].astype(tokens.dtype)


def _forward(tokens: jax.Array, *params: jax.Array) -> list[jax.Array]:
    named = dict(zip(NAMES, params, strict=True))
    weights = _layout(named).values()
    return ffi_call("mamba_token_mix", "forward", _sizes(tokens, named), [tokens.shape], tokens, *weights)


def _backward(tokens: jax.Array, *rest: jax.Array) -> list[jax.Array]:
    *params, cotangent = rest
    named = dict(zip(NAMES, params, strict=True))
    weights = _layout(named)
    w_in_t = _pad(weights["w_in"].T, 1)
    transposed = weights["w_out"].T[: tokens.shape[2]], weights["w_x"].T, w_in_t
    shapes = {key: weight.shape for key, weight in weights.items()} | {"w_in": w_in_t.shape[::-1]}
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes.values()]
    arrays, results = (tokens, *weights.values(), *transposed, cotangent), [tokens.shape, (sum(sizes),)]
    dtokens, sums = ffi_call("mamba_token_mix", "backward", _sizes(tokens, named), results, *arrays)
    parts, begin = {}, 0
    for (key, shape), size in zip(shapes.items(), sizes, strict=True):
        parts[key], begin = sums[begin : begin + size].reshape(shape), begin + size
    gradients = _from_layout(named, parts)
    return [dtokens, *(gradients[key] for key in NAMES)]


def _sizes(tokens: jax.Array, params: Arrays) -> tuple[int, ...]:
    """What is compiled in: tokens, states, taps."""
    return tokens.shape[1], params["a_log"].shape[1], params["conv_kernel"].shape[0]


def _xla(tokens: jax.Array, *params: jax.Array) -> list[jax.Array]:
    return [xla_mamba_token_mix(tokens, dict(zip(NAMES, params, strict=True)))]


_mix = differentiable(_forward, _backward, _xla)


def _pad(array: jax.Array, *axes: int) -> jax.Array:
    from m3sr_kernels.mamba_token_mix.native_block import ROWS

    return whole_vectors(array, *axes, multiple=ROWS)


def _layout(params: Arrays) -> dict[str, jax.Array]:
    """The weights as `native_block.WEIGHTS` lists them."""
    C, D = params["in_proj"].shape[0], params["d"].shape[0]
    rank = params["dt_proj"].shape[0]
    rates = -jnp.exp(params["a_log"]) * 1.4426950408889634
    x_proj = jnp.concatenate([params["x_proj"][:, rank:], params["x_proj"][:, :rank]], axis=1)
    w_in = _pad(params["in_proj"].reshape(C, 2, D), 2)
    return {
        "w_in": w_in.reshape(C, -1),
        "kernel": _pad(params["conv_kernel"], 1),
        "bias": _pad(params["conv_bias"], 0),
        "w_x": _pad(x_proj, 0, 1),
        "w_dt": _pad(params["dt_proj"], 1),
        "dt_bias": _pad(params["dt_bias"], 0),
        "rates": _pad(rates.T, 1),
        "d": _pad(params["d"], 0),
        "w_out": _pad(params["out_proj"], 0, 1),
    }


def _from_layout(params: Arrays, sums: Arrays) -> dict[str, jax.Array]:
    """Gradients of the parameters from those of the weights; `rates` is that of −exp(a_log)."""
    C, D = params["in_proj"].shape[0], params["d"].shape[0]
    rank, states = params["dt_proj"].shape[0], params["a_log"].shape[1]
    w_in = sums["w_in"].reshape(sums["w_in"].shape[0], 2, -1)
    w_x = sums["w_x"][:D]
    maps = 2 * states
    return {
        "in_proj": w_in[:C, :, :D].reshape(C, 2 * D),
        "conv_kernel": sums["kernel"][:, :D],
        "conv_bias": sums["bias"][:D],
        "x_proj": jnp.concatenate([w_x[:, maps : maps + rank], w_x[:, :maps]], axis=1),
        "dt_proj": sums["w_dt"][:, :D],
        "dt_bias": sums["dt_bias"][:D],
        "a_log": sums["rates"][:, :D].T * -jnp.exp(params["a_log"]),
        "d": sums["d"][:D],
        "out_proj": sums["w_out"][:D, :C],
    }
