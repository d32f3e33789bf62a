"""Kernel between the chunks: the state on entry of every chunk, for all directions and heads in one launch.

A program owns `COLUMNS` elements of one direction's state along the whole path. It cuts the path into `GROUPS` groups
of chunks that advance side by side:

1. What each group adds to a zero state, and the logarithm of its decay.
2. The state on entry of each group. The groups exchange their sums through memory.
3. The state on entry of each chunk, in place of what the chunk adds.

The state thus passes C / GROUPS + GROUPS decays instead of C. Each is the exponential of a sum over its own path.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.ssd_scan.triton_program import Geometry, launch, loop, place

GROUPS = 32
COLUMNS = 8  # of float32: a sector of the memory
WARPS = 4
UNROLL = 8  # chunks of a group loaded at once: the loop waits for memory, not for arithmetic


def states_on_entry(
    geometry: Geometry, added: jax.Array, log_decay: jax.Array, *, adjoint: bool, initial: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Runs h_after = exp(log_decay)·h_before + added over the chunks, in the order in which each direction visits them.

    Args:
      geometry: of the scan.
      added: what a chunk adds to the state, of `Geometry.states_shape`; overwritten by the states on entry.
      log_decay: (B, C, slots, R), logarithm of a whole chunk's decay, ≤ 0.
      adjoint: visits the chunks in the opposite order.
      initial: (B, slots, N, R, P), state before the first chunk; None for zero.

    Returns:
      The state on entry of each chunk, flat (B, elements), and after the last one, (B, slots, N, R, P).
    """
    g = geometry
    elements = g.states * g.heads * g.head_width
    blocks = pl.cdiv(elements, COLUMNS)
    sums = (g.slots * blocks * GROUPS * COLUMNS, g.dtype)
    outputs = {"sums": sums, "log_decays": sums, "last": (g.slots * elements, g.dtype)}
    inputs = {"log_decay": log_decay} | ({} if initial is None else {"initial": initial})

    def kernel(refs: dict[str, Any]) -> None:
        _kernel(_Columns(g, refs, adjoint))

    name = "ssd_cotangents_on_exit_backward" if adjoint else "ssd_states_on_entry"
    grid = (blocks, g.slots, g.batch)
    results = launch(name, kernel, g, grid, inputs, outputs, {"states": added}, num_warps=WARPS)
    return results["states"], results["last"].reshape(g.batch, g.slots, g.states, g.heads, g.head_width)


class _Columns:
    """A program's place, and its loads and stores: tiles of (groups, elements of the state)."""

    def __init__(self, geometry: Geometry, refs: dict[str, Any], adjoint: bool) -> None:
        g = self.geometry = geometry
        self.refs = refs
        self.block, self.slot, self.batch = (pl.program_id(axis) for axis in range(3))
        reverse, _ = divide(self.slot, g.units)
        self.reverse = 1 - reverse if adjoint else reverse
        self.length = pl.cdiv(g.chunks, GROUPS)  # chunks a group
        self.group = jax.lax.broadcasted_iota(jnp.int32, (GROUPS, COLUMNS), 0)
        lane = jax.lax.broadcasted_iota(jnp.int32, (1, COLUMNS), 1)
        self.column = lane + self.block * COLUMNS
        self.inside = self.column < g.states * g.heads * g.head_width
        _, of_head = divide(self.column, g.heads * g.head_width)
        self.head, _ = divide(of_head, g.head_width)
        self.sum_column = (self.slot * pl.num_programs(0) + self.block) * (GROUPS * COLUMNS) + lane

    def read(self, name: str, index: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        other = None if mask is None else jnp.zeros((), self.geometry.dtype)
        return plt.load(self.refs[name].at[self.batch, index], mask=mask, other=other)

    def write(self, name: str, index: jax.Array, value: jax.Array, mask: jax.Array | None = None) -> None:
        ref = self.refs[name]
        if self.geometry.interpret and mask is not None:  # a masked element would store what it read
            index = jnp.where(mask, index, ref.shape[-1])
        plt.store(ref.at[self.batch, index], value, mask=mask)

    def chunk(self, step: jax.Array) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
        """The `step`-th chunk of every group: index of its state, mask, what it adds and the logarithm of its decay."""
        g = self.geometry
        position = self.group * self.length + step
        exists = (step < self.length) & (position < g.chunks) & self.inside
        row = place(position, g.chunks, self.reverse) * g.slots + self.slot
        index = row * (g.states * g.heads * g.head_width) + self.column
        added, log = self.read("states", index, exists), self.read("log_decay", row * g.heads + self.head, exists)
        return index, exists, (added, log)

    def for_each_step(self, body: Any, carry: Any) -> Any:
        """`body(carry, chunk)` for the chunks of a group in turn, several loaded at once."""
        unroll = min(UNROLL, self.length)

        def some(i, carry):
            for chunk in [self.chunk(i * unroll + j) for j in range(unroll)]:
                carry = body(carry, *chunk)
            return carry

        return loop(pl.cdiv(self.length, unroll), some, carry)


def _kernel(columns: _Columns) -> None:
    dtype = columns.geometry.dtype

    def add(carry, index, exists, chunk):
        del index, exists
        total, log_decay = carry
        added, log = chunk
        return jnp.exp(log) * total + added, log_decay + log

    nothing = jnp.zeros((GROUPS, COLUMNS), dtype)
    total, log_decay = columns.for_each_step(add, (nothing, nothing))
    entering = _enter_groups(columns, total, log_decay)

    def enter(state, index, exists, chunk):
        added, log = chunk
        columns.write("states", index, state, exists)
        return jnp.exp(log) * state + added

    columns.for_each_step(enter, entering)


def _enter_groups(columns: _Columns, total: jax.Array, log_decay: jax.Array) -> jax.Array:
    """The state on entry of each group; writes the state after the last one."""
    g = columns.geometry
    own = columns.sum_column + columns.group * COLUMNS
    columns.write("sums", own, total)
    columns.write("log_decays", own, log_decay)
    if not g.interpret:
        plt.debug_barrier()  # the rows belong to other threads

    def group(number, carry):
        state, entering = carry
        index = columns.sum_column + number * COLUMNS
        entering = jnp.where(columns.group == number, state, entering)
        return jnp.exp(columns.read("log_decays", index)) * state + columns.read("sums", index), entering

    at_end = columns.slot * (g.states * g.heads * g.head_width) + columns.column
    start = jnp.zeros((1, COLUMNS), g.dtype)
    if "initial" in columns.refs:
        start = columns.read("initial", at_end, columns.inside)
    last, entering = loop(GROUPS, group, (start, jnp.zeros((GROUPS, COLUMNS), g.dtype)))
    columns.write("last", at_end, last, columns.inside)
    return entering
