"""The gradient of SSD by Mosaic GPU: 128 chunks side by side, in the layout of `mosaic.py`.

With u = Δ·x, g = exp(Δ·a), λ the cotangent of the state h and κ_t = g_t·λ_t what it hands on against time, a direction
that visits …, t−1, t, t+1, … gives

    λ_t = c_t·dy_t + κ_{t+1}        dx_t = Δ_t·Σ_n b_t·λ_t                         db_t = Σ_p λ_t·u_t
    da = Σ_t Δ_t·Σ κ_t·h_{t−1}      dΔ_t = Σ x_t·b_t·λ_t + a·Σ κ_t·h_{t−1}         dc_t = Σ_p h_t·dy_t

Phase 1 runs for h and for κ, each from zero at the start of a chunk, and stores them every few pixels. Phase 2 gives
what enters each chunk. Together they give the state at a snapshot: the one stored, plus the one on entry times the
decay since then. So the blocks of pixels between snapshots need no order, and the last kernel has a program for each.
Its threads rebuild the states of one block and one head, walk back through them, and loop over the channels with the
sums for db and dc in registers. Threads exchange nothing. XLA sums over heads and, for da, over threads.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.mosaic_call import LANES, Arrays, add, launch, multiply
from m3sr_kernels.ssd_scan.mosaic_program import Plan, chunk_states, states_on_entry_of_chunks

Pixels = list[jax.Array]  # a number a pixel of a block, in the order of the direction, each with one chunk a lane


def scan_gradient(plan: Plan, arguments: Arrays, dy: jax.Array, dlast: jax.Array | None = None) -> Arrays:
    """The cotangents of the arguments of `mosaic.scan`, in float32, from those of its results.

    Args:
      plan: of the scan.
      arguments: x (B, L, R, P), Δ (B, L, K, R), a (K, R), b and c (B, L, K, G, N).
      dy: (B, L, R, P).
      dlast: (B, K, N, R, P); None for zero.
    """
    x, steps, a, b, c = arguments
    arrays = {"x": x, "steps": steps, "b": b, "c": c, "dy": dy}
    arrays = {name: plan.by_chunk(array) for name, array in arrays.items()}
    arrays["a"] = a.astype(jnp.float32)
    decays = {name: arrays[name] for name in ("steps", "a")}
    forward, against = decays | {"x": arrays["x"], "b": arrays["b"]}, decays | {"x": arrays["dy"], "b": arrays["c"]}
    past = chunk_states(plan, forward, "ssd_chunk_states_backward", snapshots=True)
    future = chunk_states(plan, against, "ssd_chunk_cotangents_backward", adjoint=True, snapshots=True)
    arrays |= {"states": past["snapshots"], "cotangents": future["snapshots"]}
    arrays["states on entry"], _ = states_on_entry_of_chunks(plan, decays, past["states"], adjoint=False)
    arrays["cotangents on entry"], _ = states_on_entry_of_chunks(plan, decays, future["states"], dlast, adjoint=True)
    found = _gradients(plan, arrays)
    for name in ("db", "dc"):
        of_heads = found[name]
        found[name] = of_heads.reshape(*of_heads.shape[:2], b.shape[3], -1, *of_heads.shape[3:]).sum(3)
    dx, dsteps, db, dc = (plan.by_pixel(found[name]) for name in ("dx", "dsteps", "db", "dc"))
    return dx, dsteps, found["da"].sum((0, 3)), db, dc


def _gradients(plan: Plan, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """dx (Q, R, P, M), dsteps (Q, K, R, M), db and dc (Q, K, R, N, M), and da (blocks, K, R, M)."""
    Q, R, _, M = arrays["x"].shape
    K, N = arrays["b"].shape[1], arrays["b"].shape[3]
    blocks = (Q // plan.snapshot, plan.snapshot)
    shapes: dict[str, tuple[int, ...]] = {"dx": arrays["x"].shape, "dsteps": arrays["steps"].shape}
    shapes |= {"db": (Q, K, R, N, M), "dc": (Q, K, R, N, M)}
    outputs: dict[str, Any] = {name: ((*blocks, *shape[1:]), jnp.float32) for name, shape in shapes.items()}
    outputs["da"] = ((blocks[0], K, R, M), jnp.float32)
    arrays = arrays | {n: arrays[n].reshape(*blocks, *arrays[n].shape[1:]) for n in ("x", "steps", "b", "c", "dy")}
    arrays["decay before"], arrays["decay after"] = _decays(arrays["steps"].sum(1), arrays["a"])

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        for direction in range(K):
            _direction(_Block(number, refs, direction), plan.gradient_states)

    programs = M // LANES * R * blocks[0]
    found = launch("ssd_gradients_backward", kernel, arrays, outputs, programs, interpret=plan.interpret)
    return found | {name: found[name].reshape(shape) for name, shape in shapes.items()}


def _decays(steps: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The decays of the pixels of a chunk before each of its blocks, and of those after it.

    Args:
      steps: (blocks, K, R, M) sums over the pixels of a block.
      a: (K, R).
    """
    nothing = jnp.zeros_like(steps[:1])
    before = jnp.cumsum(jnp.concatenate([nothing, steps[:-1]]), 0)
    after = jnp.cumsum(jnp.concatenate([nothing, steps[:0:-1]]), 0)[::-1]
    return jnp.exp(before * a[None, :, :, None]), jnp.exp(after * a[None, :, :, None])


class _Block:
    """A program's place: a block of pixels of `LANES` chunks and one head, in one direction."""

    def __init__(self, number: jax.Array, refs: dict[str, Any], direction: int) -> None:
        blocks, size, heads, _, _ = refs["x"].shape
        number, self.block = divide(number, blocks)
        number, self.head = divide(number, heads)
        self.group, _ = divide(self.head, heads // refs["b"].shape[3])
        self.lanes = pl.ds(number * LANES, LANES)
        self.refs, self.direction = refs, direction
        self.order = range(size)[::-1] if direction else range(size)
        self.steps, self.rate = self.read("steps", direction, self.head), refs["a"][direction, self.head]
        self.decays = [jnp.exp(step * self.rate) for step in self.steps]
        since, until = ("after", "before") if direction else ("before", "after")
        self.decay_since, self.decay_until = (
            refs[f"decay {side}"][self.block, direction, self.head, self.lanes] for side in (since, until)
        )

    def read(self, name: str, *index: Any) -> Pixels:
        ref = self.refs[name]
        return [ref[(self.block, t, *index, self.lanes)].astype(jnp.float32) for t in self.order]

    def write(self, name: str, *index: Any, values: Pixels) -> None:
        for t, value in zip(self.order, values, strict=True):
            self.refs[name][(self.block, t, *index, self.lanes)] = value

    def states(self, n: int, p: Any, b: Pixels, u: Pixels) -> Pixels:
        """h of one n: before the block and after each pixel."""
        states = [self._on_entry("states", n, p, self.decay_since)]
        for decay, b_t, u_t in zip(self.decays, b, u, strict=True):
            states.append(decay * states[-1] + b_t * u_t)
        return states

    def cotangents(self, n: int, p: Any, c: Pixels, dy: Pixels) -> tuple[Pixels, Pixels]:
        """λ and κ of one n."""
        handed_on, cotangents = [self._on_entry("cotangents", n, p, self.decay_until)], list[jax.Array]()
        for decay, c_t, dy_t in zip(self.decays[::-1], c[::-1], dy[::-1], strict=True):
            cotangents.insert(0, c_t * dy_t + handed_on[0])
            handed_on.insert(0, decay * cotangents[0])
        return cotangents, handed_on[:-1]

    def _on_entry(self, name: str, n: int, p: Any, decay: jax.Array) -> jax.Array:
        """The snapshot, and what has come from other chunks."""
        place = (n, self.head, p, self.lanes)
        from_chunks = self.refs[f"{name} on entry"][(self.direction, *place)]
        return self.refs[name][(self.direction, self.block, *place)] + decay * from_chunks


def _direction(block: _Block, at_once: int) -> None:
    """All gradients of one direction; that of x is added to what the direction before has written."""
    direction, head, refs = block.direction, block.head, block.refs
    # Zeros, since Δ ≥ 0. The layout of jnp.zeros would differ from that of the loop's carry.
    zeros = [jnp.minimum(block.steps[0], 0.0)] * len(block.steps)
    of_steps = (zeros, zeros)
    N = refs["b"].shape[4]
    for first in range(0, N, at_once):
        states = range(first, min(first + at_once, N))
        of_steps, of_maps = _sum_over_channels(block, states, of_steps, zeros, adds=direction + first > 0)
        for n, db_dc in zip(states, of_maps, strict=True):
            for name, values in zip(("db", "dc"), db_dc, strict=True):
                block.write(name, direction, head, n, values=values)
    by_input, by_decay = of_steps
    block.write("dsteps", direction, head, values=add(by_input, [block.rate * value for value in by_decay]))
    refs["da"][block.block, direction, head, block.lanes] = sum(multiply(block.steps, by_decay), 0.0)


def _sum_over_channels(block: _Block, states: range, of_steps, zeros: Pixels, *, adds: bool):
    """Writes what these states contribute to dx, or adds it.

    Returns:
      The sums for dΔ, through Δ·x and through the logarithms of the decays, continued from `of_steps`; and for each
      state those for db and dc.
    """
    maps = [[block.read(name, block.direction, block.group, n) for name in ("b", "c")] for n in states]

    def add_channel(p: jax.Array, carry):
        (by_input, by_decay), of_maps = carry
        x, dy = (block.read(name, block.head, p) for name in ("x", "dy"))
        u, du, out = multiply(block.steps, x), zeros, []
        for n, (b, c), (db, dc) in zip(states, maps, of_maps, strict=True):
            h = block.states(n, p, b, u)
            cotangents, handed_on = block.cotangents(n, p, c, dy)
            du = add(du, multiply(b, cotangents))
            by_decay = add(by_decay, multiply(handed_on, h[:-1]))
            out.append((add(db, multiply(cotangents, u)), add(dc, multiply(h[1:], dy))))
        dx = multiply(block.steps, du)
        block.write("dx", block.head, p, values=add(block.read("dx", block.head, p), dx) if adds else dx)
        return (add(by_input, multiply(x, du)), by_decay), out

    start = (of_steps, [(zeros, zeros) for _ in states])
    return jax.lax.fori_loop(0, block.refs["x"].shape[3], add_channel, start)
