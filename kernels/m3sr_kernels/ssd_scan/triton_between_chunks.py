"""Kernel between the chunks: the state on entry of every chunk, for all directions and heads in one launch.

A program owns some elements of one direction's state along the whole path. It cuts the path into groups of chunks that
advance side by side:

1. What each group adds to a zero state, and its decay.
2. The state on entry of each group. The groups exchange their sums through memory.
3. The state on entry of each chunk, in place of what the chunk adds.

The state thus passes C / groups + groups decays instead of C. A few chunks are one group, which needs only step 3.
Steps 1 and 3 load the same numbers; groups of up to `UNROLL` chunks keep them in registers.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.ssd_scan.triton_geometry import Geometry, launch
from m3sr_kernels.ssd_scan.triton_program import loop, place

ELEMENTS = 256  # of a program: groups × elements of the state
MOST_GROUPS = 32  # then 8 elements of the state lie side by side: a sector of the memory
WARPS = 4
UNROLL = 8  # chunks of a group loaded at once: the loop waits for memory, not for arithmetic


def states_on_entry(
    geometry: Geometry, added: jax.Array, log_decay: jax.Array, *, adjoint: bool, initial: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Runs h_after = exp(log_decay)·h_before + added over the chunks, in the order in which each direction visits them.

    Args:
      geometry: of the scan.
      added: what a chunk adds to the state, of `Geometry.states_shape` but flat after B; overwritten by the result.
      log_decay: (B, C, slots, R), or flat after B, logarithm of a whole chunk's decay, ≤ 0.
      adjoint: visits the chunks in the opposite order.
      initial: (B, slots, N, R, P), state before the first chunk; None for zero.

    Returns:
      The state on entry of each chunk, flat like `added`, and after the last one, (B, slots, N, R, P).
    """
    g = geometry
    elements = g.states * g.heads * g.head_width
    groups = min(pl.next_power_of_2(pl.cdiv(g.chunks, UNROLL)), MOST_GROUPS)
    tile = (groups, ELEMENTS // groups)
    blocks = pl.cdiv(elements, tile[1])
    outputs: dict[str, tuple[int, Any]] = {"last": (g.slots * elements, g.dtype)}
    if groups > 1:
        outputs |= dict.fromkeys(("sums", "decays"), (g.slots * blocks * ELEMENTS, g.dtype))
    inputs = {"log_decay": log_decay} | ({} if initial is None else {"initial": initial})

    def kernel(refs: dict[str, Any]) -> None:
        _kernel(_Columns(g, tile, refs, adjoint))

    name = "ssd_cotangents_on_exit_backward" if adjoint else "ssd_states_on_entry"
    grid = (blocks, g.slots, g.batch)
    results = launch(name, kernel, g, grid, inputs, outputs, {"states": added}, num_warps=WARPS)
    return results["states"], results["last"].reshape(g.batch, g.slots, g.states, g.heads, g.head_width)


class _Columns:
    """A program's place, and its loads and stores: tiles of (groups, elements of the state)."""

    def __init__(self, geometry: Geometry, tile: tuple[int, int], refs: dict[str, Any], adjoint: bool) -> None:
        g = self.geometry = geometry
        self.tile, self.refs = tile, refs
        self.block, self.slot, self.batch = (pl.program_id(axis) for axis in range(3))
        reverse, _ = divide(self.slot, g.units)
        self.reverse = 1 - reverse if adjoint else reverse
        self.length = pl.cdiv(g.chunks, tile[0])  # chunks a group
        self.group = jax.lax.broadcasted_iota(jnp.int32, tile, 0)
        lane = jax.lax.broadcasted_iota(jnp.int32, (1, tile[1]), 1)
        self.column = lane + self.block * tile[1]
        self.inside = self.column < g.states * g.heads * g.head_width
        _, of_head = divide(self.column, g.heads * g.head_width)
        self.head, _ = divide(of_head, g.head_width)
        self.at_ends = self.slot * (g.states * g.heads * g.head_width) + self.column
        self.sum_column = (self.slot * pl.num_programs(0) + self.block) * ELEMENTS + lane

    def read(self, name: str, index: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        other = None if mask is None else jnp.zeros((), self.geometry.dtype)
        return plt.load(self.refs[name].at[self.batch, index], mask=mask, other=other)

    def write(self, name: str, index: jax.Array, value: jax.Array, mask: jax.Array | None = None) -> None:
        ref = self.refs[name]
        if self.geometry.interpret and mask is not None:  # a masked element would store what it read
            index = jnp.where(mask, index, ref.shape[-1])
        plt.store(ref.at[self.batch, index], value, mask=mask)

    def chunk(self, step: jax.Array) -> tuple[jax.Array, ...]:
        """The `step`-th chunk of every group: index of its state, mask, what it adds, and log decay."""
        g = self.geometry
        position = self.group * self.length + step
        exists = (step < self.length) & (position < g.chunks) & self.inside
        row = place(position, g.chunks, self.reverse) * g.slots + self.slot
        index = row * (g.states * g.heads * g.head_width) + self.column
        return (
            index,
            exists,
            self.read("states", index, exists),
            self.read("log_decay", row * g.heads + self.head, exists),
        )

    @functools.cached_property
    def few_chunks(self) -> list[tuple[jax.Array, ...]]:
        """All chunks of a short group, loaded once: their addresses would take more registers than they do."""
        return [self.chunk(jnp.int32(step)) for step in range(self.length)]

    def for_each_step(self, body: Any, carry: Any) -> Any:
        """`body(carry, *chunk)` for the chunks of a group in turn, several loaded at once."""

        def in_turn(chunks, carry):
            for chunk in chunks:
                carry = body(carry, *chunk)
            return carry

        if self.length <= UNROLL:
            return in_turn(self.few_chunks, carry)

        def several(i, carry):
            return in_turn([self.chunk(i * UNROLL + j) for j in range(UNROLL)], carry)

        return loop(pl.cdiv(self.length, UNROLL), several, carry)


def _kernel(columns: _Columns) -> None:
    g, groups = columns.geometry, columns.tile[0]
    start = jnp.zeros((1, columns.tile[1]), g.dtype)
    if "initial" in columns.refs:
        start = columns.read("initial", columns.at_ends, columns.inside)
    state = _enter_groups(columns, start) if groups > 1 else start

    def enter(state, index, exists, added, log_decay):
        columns.write("states", index, state, exists)
        return jnp.exp(log_decay) * state + added

    state = columns.for_each_step(enter, state)
    at_ends = jnp.broadcast_to(columns.at_ends, columns.tile)
    columns.write("last", at_ends, state, columns.inside & (columns.group == groups - 1))


def _enter_groups(columns: _Columns, start: jax.Array) -> jax.Array:
    """The state on entry of each group."""
    nothing = jnp.zeros(columns.tile, columns.geometry.dtype)

    def add(sums, index, exists, added, log_decay):
        del index, exists
        return jnp.exp(log_decay) * sums[0] + added, sums[1] + log_decay

    # Not the product of the decays: where float32 rounds each to 1, their sum still counts.
    total, log_decay = columns.for_each_step(add, (nothing, nothing))
    own = columns.sum_column + columns.group * columns.tile[1]
    columns.write("sums", own, total)
    columns.write("decays", own, jnp.exp(log_decay))
    if not columns.geometry.interpret:
        plt.debug_barrier()  # the rows belong to other threads

    def group(number, carry):
        state, entering = carry
        index = columns.sum_column + number * columns.tile[1]
        entering = jnp.where(columns.group == number, state, entering)
        return columns.read("decays", index) * state + columns.read("sums", index), entering

    return loop(columns.tile[0], group, (start, nothing))[1]
