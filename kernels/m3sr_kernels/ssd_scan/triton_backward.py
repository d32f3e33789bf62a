"""Kernels of the scan's gradient. λ is the cotangent of the state h.

With u = Δ·x and g = exp(Δ·a), a pass that visits …, t−1, t, t+1, … gives

    λ_t = c_t·dy_t + g_{t+1}·λ_{t+1}        dc_t = Σ h_t·dy_t        db_t = Σ λ_t·u_t
    dx_t = Δ_t·Σ_n b_t·λ_t + d·dy_t         da = Σ_t Δ_t·g_t·Σ λ_t·h_{t−1}
    dΔ_t = Σ (x_t·b_t·λ_t + a·g_t·λ_t·h_{t−1})

λ runs against time and h with it, and a photo's states do not fit in memory. So `history` runs forward, computes dc and
keeps the state before every `snapshot`-th pixel; `cotangents` runs backward and rebuilds `rebuild` states at a time
from the snapshot before them. Sums over pixels stay in registers; XLA sums the rest, one number a program, always in
the same order.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.ssd_scan.triton_geometry import LANES, Geometry, launch
from m3sr_kernels.ssd_scan.triton_program import Program, for_each_pass, loop, place


def gradients(
    geometry: Geometry,
    inputs: dict[str, jax.Array],
) -> dict[str, jax.Array]:
    """Computes the gradients of the scan's arguments, in the dtype of the sums.

    Args:
      geometry: of the scan.
      inputs: x, dt, a, dt_bias, b, c, d and the cotangent dy; delta and decay of `chunk_states`; of
        `Geometry.states_shape`, the states on entry of the chunks (entering) and the cotangents of the states at their
        end (leaving).

    Returns:
      By argument: x (B, L·channels), dt (B, L·slots·R), b and c (B, L·slots·N), a and dt_bias (slots, R),
      d (slots, R, P).
    """
    g = geometry
    sums: dict[str, jax.Array] = {}
    for unit in g.launches:
        sums = _both_kernels(g, inputs, unit, sums)
    maps = (g.batch, g.blocks, g.length * g.slots * g.states)
    db, dc = _sum_both(sums["db"].reshape(maps), sums["dc"].reshape(maps), (1,))
    by_head = (g.batch, g.chunks, g.slots, g.heads)
    da, ddt_bias = _sum_both(sums["da"].reshape(by_head), sums["ddt_bias"].reshape(by_head), (0, 1))
    return {
        "x": sums["dx"],
        "dt": sums["ddt"],
        "b": db,
        "c": dc,
        "a": da,
        "dt_bias": ddt_bias,
        "d": jnp.sum(sums["dd"].reshape(*by_head, g.head_width), axis=(0, 1)),
    }


def _sum_both(left: jax.Array, right: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Sums two arrays of one shape in one launch, or in none if there is nothing to add."""
    if all(left.shape[axis] == 1 for axis in axes):
        return jnp.squeeze(left, axes), jnp.squeeze(right, axes)
    zero = jnp.zeros((), left.dtype)
    return tuple(jax.lax.reduce((left, right), (zero, zero), lambda x, y: (x[0] + y[0], x[1] + y[1]), axes))


def _both_kernels(g: Geometry, inputs, unit: int | None, sums) -> dict[str, jax.Array]:
    """Scans one axis of an image, or all groups of a sequence; adds in place to the `sums` of the other axis."""
    maps = g.blocks * g.length * g.slots * g.states
    by_head = g.chunks * g.slots * g.heads
    sizes = {
        "dx": g.length * g.channels,
        "ddt": g.length * g.slots * g.heads,
        "db": maps,
        "da": by_head,
        "ddt_bias": by_head,
        "dd": by_head * g.head_width,
    }
    read = {name: inputs[name] for name in ("x", "b", "dy", "delta", "decay", "entering")}
    units = g.units if unit is None else 1
    new = {"snapshots": (units * g.passes * _snapshots_size(g), g.dtype)} | ({} if sums else {"dc": (maps, g.dtype)})
    begun = {name: sums[name] for name in sums if name == "dc"}

    def history(refs: dict[str, Any]) -> None:
        program = Program(g, refs, unit)
        for_each_pass(g, lambda index: _history_pass(program, index))

    past = launch("ssd_history_backward", history, g, g.grid(units), read, new, begun)

    def cotangents(refs: dict[str, Any]) -> None:
        program = Program(g, refs, unit)
        for_each_pass(g, lambda index: _cotangents_pass(program, index, adds=bool(sums)))

    read = {name: array for name, array in inputs.items() if name != "entering"} | {"snapshots": past["snapshots"]}
    begun = {name: sums[name] for name in sums if name != "dc"}
    new = {} if sums else {n: (size, g.dtype) for n, size in sizes.items()}
    return launch("ssd_cotangents_backward", cotangents, g, g.grid(units), read, new, begun) | {"dc": past["dc"]}


def _snapshots_size(g: Geometry) -> int:
    heads, width = g.tile
    return g.chunks * (g.chunk // g.snapshot) * g.states * g.blocks * heads * width


def _snapshot_index(program: Program, index: jax.Array, snapshot: jax.Array, state: int) -> jax.Array:
    """Flat index of a tile of a snapshot; snapshots are in the order of the pass."""
    g = program.geometry
    row = program.chunk if isinstance(program.unit, int) else program.chunk * g.units + program.unit
    row = ((row * g.passes + index) * (g.chunk // g.snapshot) + snapshot) * g.states + state
    return row * (g.blocks * g.tile[0] * g.tile[1]) + program.padded_channel


def _history_pass(program: Program, index: jax.Array) -> None:
    """Computes the states again, for dc and the snapshots."""
    g = program.geometry
    slot = program.slot(index)

    def pixels(first, state):
        moments = program.moments(slot, first, g.unroll, index)
        loaded = [(moment.channels("x"), moment.channels("dy"), moment.maps("b")) for moment in moments]
        for moment, (x, dy, b) in zip(moments, loaded, strict=True):
            state = program.advance(state, moment.decay, b, moment.delta * x)
            for n, h in enumerate(state):
                moment.write_map("dc", n, h * dy)
        return state

    def snapshot(row, state):
        for n, h in enumerate(state):
            program.write("snapshots", _snapshot_index(program, index, row, n), h)
        return loop(g.snapshot // g.unroll, lambda j, state: pixels(row * g.snapshot + j * g.unroll, state), state)

    start = [program.read("entering", program.state_index(index, n), program.inside) for n in range(g.states)]
    loop(g.chunk // g.snapshot, snapshot, tuple(start))


def _cotangents_pass(program: Program, index: jax.Array, *, adds: bool) -> None:
    """One direction, against its time; the first pass sets dx instead of adding to it."""
    g = program.geometry
    slot = program.slot(index)
    rate = program.by_head("a", slot)
    skip = program.read("d", slot * (g.heads * g.head_width) + program.head_channel, program.inside, batch=0)
    groups = LANES // g.rebuild

    def block(i, carry):
        order = g.chunk // LANES - 1 - i

        def group(j, carry):
            first = order * LANES + (groups - 1 - j) * g.rebuild
            state = _state_before(program, index, slot, first)
            return _group(program, slot, index, (rate, skip, adds or index > 0), first, state, carry)

        nothing = jnp.zeros((g.tile[0], LANES), g.dtype)
        cotangent, da, dd, ddelta = loop(groups, group, (*carry[:3], nothing))
        block_index = place(order, g.chunk // LANES, index)
        raw = program.raw_steps(slot, block_index)
        ddelta = jnp.where(program.steps_exist(block_index), ddelta / (1 + jnp.exp(-raw)), nothing)
        program.write("ddt", program.steps_index(slot, block_index), ddelta, program.steps_exist(block_index))
        return cotangent, da, dd, carry[3] + jnp.sum(ddelta, axis=1)

    cotangent = tuple(program.read("leaving", program.state_index(index, n), program.inside) for n in range(g.states))
    nothing = jnp.zeros(g.tile, g.dtype)
    carry = (cotangent, nothing, nothing, jnp.zeros(g.tile[:1], g.dtype))
    _, da, dd, dbias = loop(g.chunk // LANES, block, carry)
    _write_parameters(program, slot, da, dbias, dd)


def _state_before(program: Program, index, slot, first) -> tuple[jax.Array, ...]:
    """Rebuilds the state before place `first` of a pass, from the snapshot before it."""
    g = program.geometry
    row = jax.lax.div(first, jnp.int32(g.snapshot))
    state = tuple(program.read("snapshots", _snapshot_index(program, index, row, n)) for n in range(g.states))

    def rebuild(group, state):
        moments = program.moments(slot, row * g.snapshot + group * g.rebuild, g.rebuild, index)
        for moment, x, b in [(moment, moment.channels("x"), moment.maps("b")) for moment in moments]:
            state = program.advance(state, moment.decay, b, moment.delta * x)
        return state

    return loop(jax.lax.div(first - row * g.snapshot, jnp.int32(g.rebuild)), rebuild, state)


def _group(program: Program, slot, index, constants, first, state, carry):
    """Rebuilds the states of `rebuild` pixels from the `state` before them, then runs their cotangents backward."""
    g = program.geometry
    rate, skip, add = constants
    cotangent, da, dd, ddelta = carry
    nothing = jnp.zeros_like(da)
    pixels = []
    for moment in program.moments(slot, first, g.rebuild, index):
        x, dy, b, c = moment.channels("x"), moment.channels("dy"), moment.maps("b"), moment.maps("c")
        gain = moment.delta * x
        pixels.append((moment, (x, dy, b, c, gain), state))
        state = program.advance(state, moment.decay, b, gain)
    for step, (moment, (x, dy, b, c, gain), before) in reversed(list(enumerate(pixels))):
        cotangent = [program.multiply_add(m, dy, adjoint) for adjoint, m in zip(cotangent, c, strict=True)]
        through = moment.decay * program.add_products(nothing, cotangent, before)
        into = program.add_products(nothing, b, cotangent)
        for n, adjoint in enumerate(cotangent):
            moment.write_map("db", n, adjoint * gain)
        dx = moment.delta * into + skip * dy
        moment.write_channels("dx", dx + moment.channels("dx", add))
        da, dd = program.multiply_add(moment.delta, through, da), program.multiply_add(x, dy, dd)
        column = jax.lax.reduce_sum(x * into + rate * through, (1,))
        column = jax.lax.broadcast_in_dim(column, ddelta.shape, (0,))
        lane = place(jax.lax.rem(first, jnp.int32(LANES)) + step, LANES, index)
        ddelta = jax.lax.select(jnp.equal(program.lane, lane), column, ddelta)
        cotangent = tuple(moment.decay * adjoint for adjoint in cotangent)
    return cotangent, da, dd, ddelta


def _write_parameters(program: Program, slot, da: jax.Array, dbias: jax.Array, dd: jax.Array) -> None:
    """Writes this program's part of the gradients of a, dt_bias and d."""
    g = program.geometry
    head = jax.lax.broadcasted_iota(jnp.int32, g.tile[:1], 0) + program.block * g.tile[0]
    first = (program.chunk * g.slots + slot) * g.heads
    program.write("da", first + head, jnp.sum(da, axis=1), head < g.heads)
    program.write("ddt_bias", first + head, dbias, head < g.heads)
    program.write("dd", first * g.head_width + program.head_channel, dd, program.inside)
