"""Kernels of the forward scan: what each chunk adds to the state, and the outputs, given the state on its entry."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.ssd_scan.triton_program import LANES, Geometry, Program, for_each_pass, launch, loop, place


def chunk_states(
    geometry: Geometry, inputs: dict[str, jax.Array], *, adjoint: bool
) -> tuple[jax.Array, jax.Array | None]:
    """What each chunk adds to the state at its end or, adjoint, to the cotangent of the state on its entry.

    The kernel reads every pixel once for both directions of a path.

    Args:
      geometry: of the scan.
      inputs: dt, a and dt_bias; x and b or, for the adjoint, the cotangent dy and c.
      adjoint: computes cotangents instead of states.

    Returns:
      (B, C, slots, N, R, P), flat but for B, and the logarithm of each chunk's decay, (B, C, slots, R), likewise; None
      for the adjoint.
    """
    g = geometry
    outputs: dict[str, tuple[int, Any]] = {"states": (math.prod(g.states_shape[1:]), g.dtype)}
    if not adjoint:
        outputs["log_decay"] = (g.chunks * g.slots * g.heads, g.dtype)

    def kernel(refs: dict[str, Any]) -> None:
        _chunk_states_kernel(Program(g, refs, None), adjoint=adjoint)

    name = "ssd_chunk_cotangents_backward" if adjoint else "ssd_chunk_states"
    results = launch(name, kernel, g, g.grid(g.units), inputs, outputs)
    return results["states"], results.get("log_decay")


def _chunk_states_kernel(program: Program, *, adjoint: bool) -> None:
    g = program.geometry
    passes = range(g.passes)
    slots = [program.slot(index) for index in passes]
    rates = [program.by_head("a", slot) for slot in slots]
    value_name, map_name = ("dy", "c") if adjoint else ("x", "b")

    def pixel(offset, lane, deltas, carry):
        moments = [program.moment(offset, slot) for slot in slots]
        value = moments[0].channels(value_name)
        maps = [moment.maps(map_name) for moment in moments]
        terms = [(program.at_lane(delta, lane), rate) for delta, rate in zip(deltas, rates, strict=True)]
        return tuple(
            _grow(program, bool(index), adjoint, value, maps[index], *terms[index], *carry[index]) for index in passes
        )

    def block(index, carry):
        states, totals = carry
        deltas = [program.steps(slot, index) for slot in slots]
        totals = tuple(total + jnp.sum(delta, axis=1) for total, delta in zip(totals, deltas, strict=True))

        def pixels(group, states):
            for i in range(g.unroll):
                lane = group * g.unroll + i
                states = pixel(index * LANES + lane, lane, deltas, states)
            return states

        return loop(LANES // g.unroll, pixels, states), totals

    start = tuple((tuple(program.zeros()), jnp.ones(g.tile, g.dtype)) for _ in passes)
    totals = tuple(jnp.zeros(g.tile[:1], g.dtype) for _ in passes)
    carry, totals = loop(g.chunk // LANES, block, (start, totals))
    for index, slot, (state, _), total in zip(passes, slots, carry, totals, strict=True):
        for n, h in enumerate(state):
            program.write("states", program.state_index(index, n), h, program.inside)
        if not adjoint:
            _write_log_decay(program, slot, total)


def _grow(program: Program, reverse: bool, adjoint: bool, value, maps, delta, rate, state, passed):
    """Adds one pixel to a chunk's state; returns it and the product of the decays passed so far."""
    decay = jnp.exp(delta * rate)
    term = value if adjoint else delta * value
    if reverse != adjoint:  # the loop runs against time: all the pixels passed so far decay this one
        after = passed * decay
        weighted = (after if adjoint else passed) * term
        return tuple(program.multiply_add(m, weighted, h) for h, m in zip(state, maps, strict=True)), after
    if adjoint:  # the recurrence: a cotangent passes the decay of its own pixel too
        return tuple(decay * program.multiply_add(m, term, h) for h, m in zip(state, maps, strict=True)), passed
    return program.advance(state, decay, maps, term), passed


def _write_log_decay(program: Program, slot: Any, total_steps: jax.Array) -> None:
    g = program.geometry
    head = jax.lax.broadcasted_iota(jnp.int32, g.tile[:1], 0) + program.block * g.tile[0]
    rate = program.read("a", slot * g.heads + head, head < g.heads, batch=0)
    index = (program.chunk * g.slots + slot) * g.heads + head
    program.write("log_decay", index, total_steps * rate, head < g.heads)


def outputs(geometry: Geometry, inputs: dict[str, jax.Array], dtype: Any) -> jax.Array:
    """Computes y from the states on entry of the chunks.

    The passes of an image add up in place, in the dtype of the sums: in y itself if it has that dtype, else in an array
    beside it, from which the last pass casts.

    Args:
      geometry: of the scan.
      inputs: x, dt, a, dt_bias, b, c, d and, of `Geometry.states_shape`, entering.
      dtype: of y.

    Returns:
      (B, L·channels).
    """
    g = geometry
    size, results = g.length * g.channels, {}
    for unit in g.launches:
        whole = unit == g.launches[-1] and (dtype != g.dtype or g.passes == 1)
        new = {"y": (size, dtype)} if whole else {}
        if not (results or g.passes == 1):
            new["sums"] = (size, g.dtype)
        results = _outputs_launch(g, inputs, unit, new, results)
    return results["y" if "y" in results else "sums"]


def _outputs_launch(g: Geometry, inputs, unit: int | None, new, begun) -> dict[str, jax.Array]:
    def kernel(refs: dict[str, Any]) -> None:
        program = Program(g, refs, unit)
        for_each_pass(g, lambda index: _outputs_pass(program, index, adds=bool(begun)))

    return launch("ssd_outputs", kernel, g, g.grid(g.units if unit is None else 1), inputs, new, begun)


def _outputs_pass(program: Program, index: jax.Array, *, adds: bool) -> None:
    """One direction: h = decay·h + Δ·b·x and y += c·h + d·x; the first pass sets y instead of adding to it."""
    g = program.geometry
    slot = program.slot(index)
    rate = program.by_head("a", slot)
    skip = program.read("d", slot * (g.heads * g.head_width) + program.head_channel, program.inside, batch=0)

    def load(lane, block_index):
        moment = program.moment(block_index * LANES + lane, slot)
        before = None if g.passes == 1 else moment.channels("sums", adds or index > 0)
        return lane, moment, (moment.channels("x"), before, moment.maps("b"), moment.maps("c"))

    def store(moment, y):
        """Writes to the sums and, in the last pass, to y; they are one array if the dtype is the same."""
        whole = index == g.passes - 1
        if "y" in program.refs:
            moment.write_channels("y", y, whole)
        if "sums" in program.refs:
            moment.write_channels("sums", y, jnp.logical_not(whole) if "y" in program.refs else True)

    def step(state, lane, delta_of_lanes, loaded):
        x, y, b, c = loaded
        delta = program.at_lane(delta_of_lanes, lane)
        state = program.advance(state, jnp.exp(delta * rate), b, delta * x)
        y = skip * x if y is None else program.multiply_add(skip, x, y)
        return state, program.add_products(y, c, state)

    def block(i, state):
        block_index = place(i, g.chunk // LANES, index)
        delta = program.steps(slot, block_index)

        def pixels(group, state):
            lanes = [place(group * g.unroll + j, LANES, index) for j in range(g.unroll)]
            for lane, moment, loaded in [load(lane, block_index) for lane in lanes]:
                state, y = step(state, lane, delta, loaded)
                store(moment, y)
            return state

        return loop(LANES // g.unroll, pixels, state)

    start = [program.read("entering", program.state_index(index, n), program.inside) for n in range(g.states)]
    loop(g.chunk // LANES, block, tuple(start))
