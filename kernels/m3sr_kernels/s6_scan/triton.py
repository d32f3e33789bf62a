"""S6 by Triton: each program has a tile of sequences × channels, unrolled tokens, and its state in registers only.

Forward, a program loops over the N states and holds one of them at a time, for all tokens: with Δ, u = Δ·x and the
outputs of L tokens that takes 3L + 2 registers an element, whatever N. Backward, it runs the same loop, recomputes the
L states of one n and walks back through them. It sums the gradients of b and c over its channels, and those of a, d
and dt_bias over its sequences. XLA adds up these partial sums, one a program, without atomics: the same input gives the
same bits.

More than `MAX_TOKENS` tokens run in segments that pass on a state of (M, N, D).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from m3sr_kernels.arithmetic import sigmoid, softplus
from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.tiles import tiles
from m3sr_kernels.triton_tile import Tile

MAX_TOKENS = 16  # unrolled; backward, each takes 7 registers
SEGMENT = 8
LOG2_E = math.log2(math.e)  # the kernels get the rates times this, since 2ˣ is one instruction

Arrays = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a kernel finds its inputs.

    Attributes:
      rank: rank of the projection dt = delta·dt_proj inside the kernel; 0 if dt is given.
      delta, b, c: the first column of each in the array that holds it.
    """

    rank: int = 0
    delta: int = 0
    b: int = 0
    c: int = 0


@functools.partial(jax.jit, static_argnames="call")
def triton_s6_scan(x, dt, a, b, c, d, z, dt_bias, *, call: GpuCall) -> jax.Array:
    """Arguments and result as `s6_scan`."""
    arrays = {"x": x, "dt": dt, "a": a, "b": b, "c": c, "d": d, "z": z, "dt_bias": dt_bias}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if x.shape[1] <= MAX_TOKENS:
        return scan_tokens(call, Layout(), arrays)["y"]
    return _scan_segments(call, arrays)


def _scan_segments(call: GpuCall, arrays: Arrays) -> jax.Array:
    """Passes the state from segment to segment; the gradient keeps one state a segment."""
    M, L, D = arrays["x"].shape
    moving = {name: arrays[name] for name in ("x", "dt", "b", "c", "z") if name in arrays}
    fixed = {name: array for name, array in arrays.items() if name not in moving}

    def segments(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, [(0, 0), (0, -L % SEGMENT), (0, 0)])
        return jnp.moveaxis(padded.reshape(M, -1, SEGMENT, array.shape[2]), 1, 0)

    def step(state, segment):
        out = scan_tokens(call, Layout(), fixed | segment | {"state": state})
        return out["state"], out["y"]

    start = jnp.zeros((M, arrays["a"].shape[1], D), accumulation_dtype(*arrays.values()))
    _, y = jax.lax.scan(step, start, jax.tree.map(segments, moving))
    return jnp.moveaxis(y, 0, 1).reshape(M, -1, D)[:, :L]


def scan_tokens(call: GpuCall, layout: Layout, arrays: Arrays) -> Arrays:
    """Scans at most `MAX_TOKENS` tokens.

    Args:
      call: calls the kernel.
      layout: where b, c and delta are.
      arrays: x (M, L, D), a (D, N), b and c (M, L, ≥N), and dt (M, L, D) or delta (M, L, ≥rank) with dt_proj (rank, D);
        optionally d (D,), dt_bias (D,), z (M, L, D), and state (M, N, D) before the first token.

    Returns:
      y (M, L, D) in x's dtype and, if a state was given, that after the last token.
    """
    return cast(Arrays, _scan_tokens(call, layout, arrays))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_tokens(call: GpuCall, layout: Layout, arrays: Arrays) -> Arrays:
    return forward(call, layout, arrays)


def _scan_tokens_fwd(call: GpuCall, layout: Layout, arrays: Arrays):
    return forward(call, layout, arrays), arrays


def _scan_tokens_bwd(call: GpuCall, layout: Layout, arrays: Arrays, cotangents: Arrays):
    gradients = backward(call, layout, arrays, cotangents)
    del gradients["y"]
    return ({name: gradients[name].astype(arrays[name].dtype) for name in arrays},)


_scan_tokens.defvjp(_scan_tokens_fwd, _scan_tokens_bwd)


def forward(call: GpuCall, layout: Layout, arrays: Arrays) -> Arrays:
    """`scan_tokens` without its gradient."""
    M, L, D = arrays["x"].shape
    shapes = {"y": jax.ShapeDtypeStruct((M, L, D), arrays["x"].dtype)}
    if "state" in arrays:
        shapes["state"] = jax.ShapeDtypeStruct(arrays["state"].shape, accumulation_dtype(*arrays.values()))
    return _launch(call, layout, _forward_kernel, "", lambda blocks: shapes, arrays)


def backward(call: GpuCall, layout: Layout, arrays: Arrays, cotangents: Arrays) -> Arrays:
    """The gradient of `scan_tokens`.

    Returns:
      The cotangents by array, with "dt" in place of delta and dt_proj, and the output "y". Those of parameters, b, c
      and state are in the dtype of the sums, the others in that of the array.
    """
    M, L, D = arrays["x"].shape
    N = arrays["a"].shape[1]
    wide = accumulation_dtype(*arrays.values())

    def shapes(blocks: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
        partial = {"a": (blocks[0], N, D), "bc": (blocks[1], N, M, 2 * L)}
        partial |= {name: (blocks[0], D) for name in ("d", "dt_bias") if name in arrays}
        like_x = [name for name in ("x", "dt", "y", "z") if name != "z" or "z" in arrays]
        whole = {name: jax.ShapeDtypeStruct((M, L, D), arrays.get(name, arrays["x"]).dtype) for name in like_x}
        if "state" in arrays:
            whole["state"] = jax.ShapeDtypeStruct((M, N, D), wide)
        return whole | {name: jax.ShapeDtypeStruct(shape, wide) for name, shape in partial.items()}

    given = {f"d{name}": array for name, array in cotangents.items()}
    out = _launch(call, layout, _backward_kernel, "gradient_", shapes, arrays | given)
    sums = {name: jnp.sum(out[name], axis=0) for name in ("a", "bc", "d", "dt_bias") if name in out}
    b, c = jnp.split(jnp.transpose(sums.pop("bc"), (1, 2, 0)), 2, axis=1)
    return out | sums | {"a": sums["a"].T, "b": b, "c": c}


def _launch(call: GpuCall, layout: Layout, kernel: Callable, prefix: str, shapes: Callable, arrays: Arrays) -> Arrays:
    """Runs `kernel` on a grid of (sequence blocks, channel blocks); `shapes(grid)` are those of its outputs."""
    M, L, D = arrays["x"].shape
    tuned = tiles("s6_scan")
    # The gradient of many tokens needs more registers, so it takes half a tile.
    rows = max(1, tuned[f"{prefix}rows"] // (2 if prefix and L > 4 else 1))
    tile = (rows, min(tuned[f"{prefix}columns"], pl.next_power_of_2(D)))
    grid = (pl.cdiv(M, tile[0]), pl.cdiv(D, tile[1]))
    dtype = accumulation_dtype(*arrays.values())
    results = shapes(grid)

    def body(ins: dict[str, Any], outs: dict[str, Any]) -> None:
        kernel(Tile((M, D), tile, dtype, interpret=call.interpret), layout, ins, outs)

    def run(arrays: Arrays) -> Arrays:
        return pl.pallas_call(
            body,
            out_shape=results,
            grid=grid,
            compiler_params=plt.CompilerParams(num_warps=tuned[f"{prefix}num_warps"], num_stages=1),
            interpret=call.interpret,
            name=f"s6_scan{kernel.__name__.removesuffix('_kernel')}",
        )(arrays | {"a": LOG2_E * arrays["a"].T.astype(dtype)})

    return call(run, results, arrays)


def _steps(tile: Tile, layout: Layout, ins: dict[str, Any], length: int) -> list[jax.Array]:
    """The step sizes of each token with their bias, before softplus."""
    if layout.rank:
        zero = jnp.zeros((1, 1), tile.dtype)

        def add(r, steps):
            weight = tile.per_column(ins["dt_proj"], r)
            ranks = (tile.per_row(ins["delta"], t, layout.delta + r) for t in range(length))
            return tuple(tile.multiply_add(rank, weight, step) for rank, step in zip(ranks, steps, strict=True))

        start = tuple(jnp.broadcast_to(zero, tile.shape) for _ in range(length))
        steps = list(jax.lax.fori_loop(0, layout.rank, add, start))
    else:
        steps = [tile.token(ins["dt"], t) for t in range(length)]
    if "dt_bias" in ins:
        bias = tile.per_column(ins["dt_bias"])
        steps = [step + bias for step in steps]
    return steps


def _forward_kernel(tile: Tile, layout: Layout, ins: dict[str, Any], outs: dict[str, Any]) -> None:
    L, N = ins["x"].shape[1], ins["a"].shape[0]
    x = [tile.token(ins["x"], t) for t in range(L)]
    steps = [softplus(step) for step in _steps(tile, layout, ins, L)]
    u = [step * x_t for step, x_t in zip(steps, x, strict=True)]

    def add_state(n, y):
        h = _states(tile, layout, ins, n, steps, u)[0]
        if "state" in outs:
            tile.store_token(outs["state"], n, h[-1])
        c = (tile.per_row(ins["c"], t, layout.c + n) for t in range(L))
        return tuple(tile.multiply_add(*terms) for terms in zip(c, h, y, strict=True))

    skip = tile.per_column(ins["d"]) if "d" in ins else jnp.zeros((1, 1), tile.dtype)
    y = jax.lax.fori_loop(0, N, add_state, tuple(skip * x_t for x_t in x))
    for t, y_t in enumerate(y):
        if "z" in ins:
            z = tile.token(ins["z"], t)
            y_t = y_t * z * sigmoid(z)
        tile.store_token(outs["y"], t, y_t)


def _states(tile: Tile, layout: Layout, ins: dict[str, Any], n: Any, steps: list, u: list) -> tuple[list, list]:
    """h_t[n] and its decay from h_{t−1} for all t; None is the decay of a first token without a state before it."""
    rate = tile.per_column(ins["a"], n)
    h = tile.token(ins["state"], n) if "state" in ins else None
    states, decays = [], []
    for t, (step, u_t) in enumerate(zip(steps, u, strict=True)):
        added = u_t * tile.per_row(ins["b"], t, layout.b + n)
        decays.append(None if h is None else jnp.exp2(step * rate))
        h = added if h is None else tile.multiply_add(decays[-1], h, added)
        states.append(h)
    return states, decays


def _backward_kernel(tile: Tile, layout: Layout, ins: dict[str, Any], outs: dict[str, Any]) -> None:
    """What the loop over states does not need is read again after it: cached reads are cheaper than registers."""
    L, N = ins["x"].shape[1], ins["a"].shape[0]
    steps = [softplus(step) for step in _steps(tile, layout, ins, L)]
    x = [tile.token(ins["x"], t) for t in range(L)]
    u = [step * x_t for step, x_t in zip(steps, x, strict=True)]
    dy = [_ungated(tile, ins, t) for t in range(L)]
    skip = tile.per_column(ins["d"]) if "d" in ins else jnp.zeros((1, 1), tile.dtype)
    zeros = tuple(jnp.zeros(tile.shape, tile.dtype) for _ in range(L))
    body = functools.partial(_add_state_gradients, tile, layout, ins, outs, steps, u, dy)
    y, du, dsteps = jax.lax.fori_loop(0, N, body, (tuple(skip * x_t for x_t in x), zeros, zeros))

    raw = _steps(tile, layout, ins, L)
    dbias = dskip = jnp.zeros(tile.shape, tile.dtype)
    for t in range(L):
        x_t, step, dy_t, out = tile.token(ins["x"], t), softplus(raw[t]), _ungated(tile, ins, t), y[t]
        tile.store_token(outs["x"], t, du[t] * step + skip * dy_t)
        ddt = (dsteps[t] / LOG2_E + du[t] * x_t) * sigmoid(raw[t])
        tile.store_token(outs["dt"], t, ddt)
        dbias, dskip = dbias + ddt, dskip + dy_t * x_t
        if "z" in ins:
            z, gate = tile.token(ins["z"], t), sigmoid(tile.token(ins["z"], t))
            tile.store_token(outs["z"], t, tile.token(ins["dy"], t) * out * gate * (1 + z * (1 - gate)))
            out = out * z * gate
        tile.store_token(outs["y"], t, out)
    if "dt_bias" in outs:
        tile.store_sum_over_rows(outs["dt_bias"], value=dbias)
    if "d" in outs:
        tile.store_sum_over_rows(outs["d"], value=dskip)


def _ungated(tile: Tile, ins: dict[str, Any], t: int) -> jax.Array:
    """The cotangent of y_t before the gate."""
    dy = tile.token(ins["dy"], t)
    if "z" not in ins:
        return dy
    z = tile.token(ins["z"], t)
    return dy * z * sigmoid(z)


def _add_state_gradients(tile, layout, ins, outs, steps, u, dy, n, sums):
    """Adds what state n contributes to y, du and dsteps, and stores its gradients of a, b, c."""
    y, du, dsteps = map(list, sums)
    states, decays = _states(tile, layout, ins, n, steps, u)
    rate = tile.per_column(ins["a"], n)
    before = [tile.token(ins["state"], n) if "state" in ins else None, *states[:-1]]
    carried = tile.token(ins["dstate"], n) if "state" in ins else None  # cotangent of h_t from later tokens
    L = len(u)
    drate = jnp.zeros(tile.shape, tile.dtype)
    by_row = [drate] * (2 * L)
    for t in reversed(range(L)):
        c, b = tile.per_row(ins["c"], t, layout.c + n), tile.per_row(ins["b"], t, layout.b + n)
        y[t] = tile.multiply_add(c, states[t], y[t])
        by_row[L + t] = dy[t] * states[t]
        dh = c * dy[t] if carried is None else tile.multiply_add(c, dy[t], carried)
        by_row[t] = dh * u[t]
        du[t] = tile.multiply_add(dh, b, du[t])
        if decays[t] is not None:
            carried = decays[t] * dh
            dlog = carried * before[t]
            dsteps[t] = tile.multiply_add(dlog, rate, dsteps[t])
            drate = tile.multiply_add(dlog, steps[t], drate)
    tile.store_sums_over_columns(outs["bc"], n, values=by_row)
    tile.store_sum_over_rows(outs["a"], n, value=drate)
    if "state" in outs:
        tile.store_token(outs["state"], n, carried)
    return tuple(y), tuple(du), tuple(dsteps)
