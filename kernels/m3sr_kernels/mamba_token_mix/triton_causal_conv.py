"""Causal depthwise convolution over few tokens, then SiLU: one Triton kernel forward, one backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from m3sr_kernels.arithmetic import sigmoid
from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.tiles import tiles
from m3sr_kernels.triton_tile import Tile

Refs = dict[str, Any]


def causal_conv_silu(call: GpuCall, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Computes SiLU(bias + Σ_j kernel[j]·x_{t−J+1+j}), with zeros before token 0; tokens are unrolled.

    Args:
      call: calls the kernel.
      x: (M, L, D).
      kernel: (J, D).
      bias: (D,).

    Returns:
      (M, L, D) in x's dtype.
    """
    return cast(jax.Array, _causal_conv_silu(call, x, kernel, bias))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _causal_conv_silu(call: GpuCall, x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    outputs = lambda blocks: {"y": jax.ShapeDtypeStruct(x.shape, x.dtype)}  # noqa: E731
    return _launch(call, _forward_kernel, outputs, {"x": x, "kernel": kernel, "bias": bias})["y"]


def _fwd(call: GpuCall, x: jax.Array, kernel: jax.Array, bias: jax.Array):
    return _causal_conv_silu(call, x, kernel, bias), (x, kernel, bias)


def _bwd(call: GpuCall, residuals: tuple[jax.Array, ...], dy: jax.Array):
    x, kernel, bias = residuals
    wide = accumulation_dtype(*residuals)

    def outputs(blocks: int) -> dict[str, jax.ShapeDtypeStruct]:
        sums = {"kernel": (blocks, *kernel.shape), "bias": (blocks, *bias.shape)}
        return {"x": jax.ShapeDtypeStruct(x.shape, x.dtype)} | {
            name: jax.ShapeDtypeStruct(shape, wide) for name, shape in sums.items()
        }

    out = _launch(call, _backward_kernel, outputs, {"x": x, "kernel": kernel, "bias": bias, "dy": dy})
    return out["x"], out["kernel"].sum(0).astype(kernel.dtype), out["bias"].sum(0).astype(bias.dtype)


_causal_conv_silu.defvjp(_fwd, _bwd)


def _launch(call: GpuCall, kernel: Callable, outputs: Callable, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    M, _, D = arrays["x"].shape
    tuned = tiles("causal_conv")
    tile = (tuned["rows"], min(tuned["columns"], pl.next_power_of_2(D)))
    grid = (pl.cdiv(M, tile[0]), pl.cdiv(D, tile[1]))
    dtype = accumulation_dtype(*arrays.values())
    results = outputs(grid[0])

    def body(ins: Refs, outs: Refs) -> None:
        kernel(Tile((M, D), tile, dtype, interpret=call.interpret), ins, outs)

    def run(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return pl.pallas_call(
            body,
            out_shape=results,
            grid=grid,
            compiler_params=plt.CompilerParams(num_warps=tuned["num_warps"], num_stages=1),
            interpret=call.interpret,
            name=f"causal_conv{kernel.__name__.removesuffix('_kernel')}",
        )(arrays)

    return call(run, results, arrays)


def _convolve(tile: Tile, ins: Refs) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """The tokens, the taps from that of the current token backwards, and the convolution."""
    J, L = ins["kernel"].shape[0], ins["x"].shape[1]
    tokens = [tile.token(ins["x"], t) for t in range(L)]
    taps = [tile.per_column(ins["kernel"], J - 1 - j) for j in range(J)]
    bias = tile.per_column(ins["bias"])
    mixed = [sum((tap * x for tap, x in zip(taps, tokens[t::-1], strict=False)), bias) for t in range(L)]
    return tokens, taps, mixed


def _forward_kernel(tile: Tile, ins: Refs, outs: Refs) -> None:
    for t, mixed in enumerate(_convolve(tile, ins)[2]):
        tile.store_token(outs["y"], t, mixed * sigmoid(mixed))


def _backward_kernel(tile: Tile, ins: Refs, outs: Refs) -> None:
    tokens, taps, mixed = _convolve(tile, ins)
    L, J = len(tokens), len(taps)
    asked = []
    for t, value in enumerate(mixed):
        gate = sigmoid(value)
        asked.append(tile.token(ins["dy"], t) * gate * (1 + value * (1 - gate)))
    zero = jnp.zeros(tile.shape, tile.dtype)
    for t in range(L):
        tile.store_token(outs["x"], t, sum((tap * g for tap, g in zip(taps, asked[t:], strict=False)), zero))
    for j in range(J):  # this tap weighs the token j places earlier
        value = sum((g * x for g, x in zip(asked[j:], tokens, strict=False)), zero)
        tile.store_sum_over_rows(outs["kernel"], J - 1 - j, value=value)
    tile.store_sum_over_rows(outs["bias"], value=sum(asked, zero))
