"""The gradient of S6 by Mosaic GPU: 128 sequences side by side, as in `mosaic.py`, in two kernels.

Both recompute the states of a sequence and walk back through them. The first has a few channels a program and loops
over sequences: it sums over the states for the gradients of x and Δ, and over its sequences, thread by thread, for that
of a. The second has a few states a program and loops over channels: it sums over them for the gradients of b and c. So
every sum stays in registers, and threads exchange nothing. XLA adds up the sums of programs and threads for a, without
atomics, and computes what has no recurrence: Δ, skip, gate and their gradients.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.mosaic_call import LANES, Arrays, add, from_lanes, launch, multiply, to_lanes
from m3sr_kernels.s6_scan.api import step_sizes, with_skip_and_gate

PROGRAMS = 2048  # fewest of the first kernel, if there is enough work: an H200 runs 528 at once
MAX_BLOCKS = 32  # of sequences a program
LOG2_E = math.log2(math.e)  # the kernels get the rates times this, since 2ˣ is one instruction

Tokens = list[jax.Array]  # a number a token, each with one sequence a lane


def backward(interpret: bool, arrays: Arrays, dy: jax.Array) -> Arrays:
    """The cotangents of the op's arguments, in their dtypes, from that of y."""
    x, dt, a, b, c, d, z, dt_bias = arrays
    x, dt, dy = (array.astype(jnp.float32) for array in (x, dt, dy))
    of_scan = dy if z is None else dy * jax.nn.silu(z.astype(jnp.float32))
    y, dx, dsteps, da, db, dc = _scan_gradient(interpret, x, step_sizes(dt, dt_bias), a, b, c, of_scan)
    # Tied to a result of the kernels, the inputs give Δ and the gate once more; else XLA would store both.
    x, dt, z, dy, da = jax.lax.optimization_barrier((x, dt, z, dy, da))
    ddt, ddt_bias = jax.vjp(step_sizes, dt, dt_bias)[1](dsteps)
    _, dx_of_skip, dd, dz = jax.vjp(with_skip_and_gate, y, x, d, z)[1](dy)
    gradients = (dx + dx_of_skip, ddt, da, db, dc, dd, dz, ddt_bias)
    return jax.tree.map(lambda array, gradient: gradient.astype(array.dtype), arrays, gradients)


def _scan_gradient(interpret: bool, x, steps, a, b, c, dy) -> tuple[jax.Array, ...]:
    """y without skip and gate, and the cotangents of x, Δ, a, b and c, from that of y."""
    M, _, D = x.shape
    N = a.shape[1]
    arrays = {"x": x, "steps": steps, "b": b, "c": c, "dy": dy}
    arrays = {name: to_lanes(array) for name, array in arrays.items()}
    arrays["a"] = LOG2_E * a.astype(jnp.float32)
    blocks, width = arrays["x"].shape[0], _channels(x.shape[1])
    parts = pl.cdiv(D, width)
    each = max(1, min(MAX_BLOCKS, blocks * parts // PROGRAMS))  # blocks of sequences a program
    outputs: dict[str, Any] = {name: (arrays["x"].shape, jnp.float32) for name in ("y", "dx", "dsteps")}  # noqa: C420
    outputs["da"] = ((pl.cdiv(blocks, each), parts * width, N, LANES), jnp.float32)

    def kernel(program: jax.Array, refs: dict[str, Any]) -> None:
        _inputs_kernel(program, refs, each)

    options: dict[str, bool] = {"interpret": interpret, "fast_exponentials": True}
    programs = pl.cdiv(blocks, each) * parts
    found = launch("s6_scan_inputs_backward", kernel, arrays, outputs, programs, **options)
    da = jnp.sum(found.pop("da"), (0, 3))[:D]
    outputs = {f"d{name}": (arrays[name].shape, arrays[name].dtype) for name in ("b", "c")}
    programs = blocks * pl.cdiv(N, _states(x.shape[1]))
    found |= launch("s6_scan_maps_backward", _maps_kernel, arrays, outputs, programs, **options)
    y, dx, dsteps, db, dc = (from_lanes(array, M) for array in found.values())
    return y, dx, dsteps, da, db, dc


def _channels(tokens: int) -> int:
    """Channels a program of the first kernel; they share b and c, and each takes some 12 registers a token."""
    return 2 if tokens <= 4 else 1


def _states(tokens: int) -> int:
    """States a program of the second kernel; they share x, Δ and dy, and each takes 4 registers a token."""
    return max(1, 16 // tokens)


def _inputs_kernel(program: jax.Array, refs: dict[str, Any], blocks: int) -> None:
    """Some channels of `blocks` blocks of sequences; programs of the same sequences follow one another.

    The last program may compute the last channel several times, to fill its channels.
    """
    rows, L, D, _ = refs["x"].shape
    N, width = refs["a"].shape[1], _channels(L)
    group, part = divide(program, pl.cdiv(D, width))
    places = [part * width + i for i in range(width)]
    channels = [jnp.minimum(place, D - 1) for place in places]
    drates = [refs["da"].at[group, place] for place in places]
    first = group * blocks
    zeros = _zeros(refs, first)

    def clear(n: jax.Array, carry: None) -> None:
        for drate in drates:
            drate[n] = zeros

    def visit(row: jax.Array, carry: None) -> None:
        inputs = [[_read(refs, name, row, k) for name in ("x", "steps", "dy")] for k in channels]

        def add_state(n: jax.Array, sums: list[list[Tokens]]) -> list[list[Tokens]]:
            b, c = (_read(refs, name, row, n) for name in ("b", "c"))
            out = []
            for k, (x, steps, dy), of_channel, drate in zip(channels, inputs, sums, drates, strict=True):
                of_channel, added = _add_state(refs["a"][k, n], x, steps, dy, b, c, of_channel)
                drate[n] = drate[n] + added
                out.append(of_channel)
            return out

        sums = jax.lax.fori_loop(0, N, add_state, [[[zeros] * L] * 3 for _ in channels])
        for k, (x, steps, _), (y, du, dlogs) in zip(channels, inputs, sums, strict=True):
            for t in range(L):
                refs["y"][row, t, k] = y[t]
                refs["dx"][row, t, k] = du[t] * steps[t]
                refs["dsteps"][row, t, k] = dlogs[t] * (1 / LOG2_E) + du[t] * x[t]

    jax.lax.fori_loop(0, N, clear, None)
    jax.lax.fori_loop(first, jnp.minimum(first + blocks, rows), visit, None)


def _add_state(rate: jax.Array, x: Tokens, steps: Tokens, dy: Tokens, b: Tokens, c: Tokens, sums):
    """Adds what one state contributes to y, to the gradient of u = Δ·x and, times log₂ e, to that of Δ in the decays.

    Returns these sums and the gradient of the state's rate.
    """
    y, du, dlogs = sums
    h, decays = states(rate, steps, multiply(steps, x), b)
    dh, carried = _cotangents(c, dy, decays)
    y, du = add(y, multiply(c, h)), add(du, multiply(b, dh))
    dlog = multiply(carried, h[:-1])
    dlogs = dlogs[:1] + [sum_t + dlog_t * rate for sum_t, dlog_t in zip(dlogs[1:], dlog, strict=True)]
    return [y, du, dlogs], sum(multiply(dlog, steps[1:]), 0.0)


def _maps_kernel(program: jax.Array, refs: dict[str, Any]) -> None:
    """Some states of one block of sequences, over all channels; the last program may compute the last state again."""
    _, L, D, _ = refs["x"].shape
    N, width = refs["a"].shape[1], _states(L)
    row, part = divide(program, pl.cdiv(N, width))
    numbers = [jnp.minimum(part * width + i, N - 1) for i in range(width)]
    maps = [[_read(refs, name, row, n) for name in ("b", "c")] for n in numbers]

    def add_channel(k: jax.Array, sums: list[list[Tokens]]) -> list[list[Tokens]]:
        x, steps, dy = (_read(refs, name, row, k) for name in ("x", "steps", "dy"))
        u, out = multiply(steps, x), []
        for n, (b, c), (db, dc) in zip(numbers, maps, sums, strict=True):
            h, decays = states(refs["a"][k, n], steps, u, b)
            dh, _ = _cotangents(c, dy, decays)
            out.append([add(db, multiply(dh, u)), add(dc, multiply(dy, h))])
        return out

    start = [_zeros(refs, row)] * L
    sums = jax.lax.fori_loop(0, D, add_channel, [[start, start] for _ in numbers])
    for n, of_maps in zip(numbers, sums, strict=True):
        for name, values in zip(("db", "dc"), of_maps, strict=True):
            for t, value in enumerate(values):
                refs[name][row, t, n] = value.astype(refs[name].dtype)


def states(rate: jax.Array, steps: Tokens, u: Tokens, b: Tokens) -> tuple[Tokens, Tokens]:
    """h_t of one state, from its rate times log₂ e, and the decays from h_{t−1}: the first token has none before it."""
    h, decays = [u[0] * b[0]], [jnp.exp2(step * rate) for step in steps[1:]]
    for decay, u_t, b_t in zip(decays, u[1:], b[1:], strict=True):
        h.append(decay * h[-1] + u_t * b_t)
    return h, decays


def _cotangents(c: Tokens, dy: Tokens, decays: Tokens) -> tuple[Tokens, Tokens]:
    """The cotangent of each h_t and, without the first token, what of it reaches h_{t−1}."""
    dh, carried = [c[-1] * dy[-1]], list[jax.Array]()
    for c_t, dy_t, decay in zip(c[-2::-1], dy[-2::-1], decays[::-1], strict=True):
        carried.insert(0, decay * dh[0])
        dh.insert(0, c_t * dy_t + carried[0])
    return dh, carried


def _read(refs: dict[str, Any], name: str, row: Any, index: Any) -> Tokens:
    """All tokens of a channel or state of a block of sequences."""
    return [refs[name][row, t, index].astype(jnp.float32) for t in range(refs[name].shape[1])]


def _zeros(refs: dict[str, Any], row: Any) -> jax.Array:
    """Zeros, since Δ ≥ 0; the layout of jnp.zeros would differ from that of a loop's carry."""
    return jnp.minimum(refs["steps"][row, 0, 0], 0.0)
