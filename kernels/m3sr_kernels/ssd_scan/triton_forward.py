"""Kernels of the forward scan: what each chunk adds to the state, and the outputs, given the state on its entry."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plt

from m3sr_kernels.ssd_scan.triton_geometry import LANES, Geometry, launch
from m3sr_kernels.ssd_scan.triton_program import Moment, Program, for_each_pass, loop


def chunk_states(geometry: Geometry, inputs: dict[str, jax.Array], *, adjoint: bool) -> dict[str, jax.Array]:
    """What each chunk adds to the state at its end or, adjoint, to the cotangent of the state on its entry.

    The kernel reads every pixel once for both directions of a path.

    Args:
      geometry: of the scan.
      inputs: dt, a and dt_bias; x and b or, for the adjoint, the cotangent dy and c.
      adjoint: computes cotangents instead of states.

    Returns:
      Arrays that are flat but for their batch axis: states (B, C, slots, N, R, P), delta and decay
      (B, C, slots, R, chunk) in the order of each pass, and, unless adjoint, log_decay (B, C, slots, R), the logarithm
      of each chunk's decay.
    """
    g = geometry
    outputs: dict[str, tuple[int, Any]] = {"states": (g.states_size, g.dtype)}
    outputs |= dict.fromkeys(("delta", "decay"), (g.steps_size, g.dtype))
    if not adjoint:
        outputs["log_decay"] = (g.log_decay_size, g.dtype)

    def kernel(refs: dict[str, Any]) -> None:
        program = Program(g, refs, None)
        _store_steps(program)
        _chunk_states_kernel(program, adjoint=adjoint)

    name = "ssd_chunk_cotangents_backward" if adjoint else "ssd_chunk_states"
    return launch(name, kernel, g, g.grid(g.units), inputs, outputs)


def _store_steps(program: Program) -> None:
    """Computes Δ and the decays of a chunk, once for all the kernels that follow."""
    g = program.geometry

    def block(index, totals):
        deltas = [program.steps(program.slot(k), index) for k in range(g.passes)]
        for k, delta in enumerate(deltas):
            program.write_steps(program.slot(k), index, k, delta)
        return tuple(total + jnp.sum(delta, axis=1) for total, delta in zip(totals, deltas, strict=True))

    totals = loop(g.chunk // LANES, block, (jnp.zeros(g.tile[:1], g.dtype),) * g.passes)
    if "log_decay" in program.refs:
        for k, total in enumerate(totals):
            _write_log_decay(program, program.slot(k), total)
    if not g.interpret:
        plt.debug_barrier()  # each lane loads what others have stored


def _chunk_states_kernel(program: Program, *, adjoint: bool) -> None:
    g = program.geometry
    value_name, map_name = ("dy", "c") if adjoint else ("x", "b")

    def pixels(group, carry):
        first = group * g.unroll
        paths = [program.moments(program.slot(0), first, g.unroll, 0)]
        if g.passes == 2:  # the same pixels are the last ones of the reverse pass
            paths.append(program.moments(program.slot(1), g.chunk - g.unroll - first, g.unroll, 1)[::-1])
        values = [moment.channels(value_name) for moment in paths[0]]
        maps = [[moment.maps(map_name) for moment in path] for path in paths]
        for i, value in enumerate(values):
            carry = tuple(
                _grow(program, bool(k), adjoint, value, maps[k][i], path[i], *carry[k]) for k, path in enumerate(paths)
            )
        return carry

    start = tuple((tuple(program.zeros()), jnp.ones(g.tile, g.dtype)) for _ in range(g.passes))
    carry = loop(g.chunk // g.unroll, pixels, start)
    for k, (state, _) in enumerate(carry):
        for n, h in enumerate(state):
            program.write("states", program.state_index(k, n), h, program.inside)


def _grow(program: Program, reverse: bool, adjoint: bool, value, maps, moment: Moment, state, passed):
    """Adds one pixel to a chunk's state; returns it and the product of the decays passed so far."""
    decay = moment.decay
    term = value if adjoint else moment.delta * value
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
      inputs: x, b, c, d; delta and decay of `chunk_states`; entering, of `Geometry.states_shape`.
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
    skip = program.read("d", slot * (g.heads * g.head_width) + program.head_channel, program.inside, batch=0)

    def load(moment):
        before = None if g.passes == 1 else moment.channels("sums", adds or index > 0)
        return moment.channels("x"), before, moment.maps("b"), moment.maps("c")

    def store(moment, y):
        """Writes to the sums and, in the last pass, to y; they are one array if the dtype is the same."""
        whole = index == g.passes - 1
        if "y" in program.refs:
            moment.write_channels("y", y, whole)
        if "sums" in program.refs:
            moment.write_channels("sums", y, jnp.logical_not(whole) if "y" in program.refs else True)

    def pixels(group, state):
        moments = program.moments(slot, group * g.unroll, g.unroll, index)
        for moment, (x, y, b, c) in [(moment, load(moment)) for moment in moments]:
            state = program.advance(state, moment.decay, b, moment.delta * x)
            y = skip * x if y is None else program.multiply_add(skip, x, y)
            store(moment, program.add_products(y, c, state))
        return state

    start = [program.read("entering", program.state_index(index, n), program.inside) for n in range(g.states)]
    loop(g.chunk // g.unroll, pixels, tuple(start))
