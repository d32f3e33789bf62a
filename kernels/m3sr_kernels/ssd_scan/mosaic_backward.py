"""The gradient of SSD by Mosaic GPU: 128 chunks side by side, in the layout of `mosaic.py`.

With u = Δ·x, g = exp(Δ·a), λ the cotangent of the state h and κ_t = g_t·λ_t what it hands on against time, a direction
that visits …, t−1, t, t+1, … gives

    λ_t = c_t·dy_t + κ_{t+1}       dx_t = Δ_t·Σ_n b_t·λ_t                     db_t = Σ_p λ_t·u_t
    da = Σ_t Δ_t·Σ κ_t·h_{t−1}     dΔ_t = Σ x_t·b_t·λ_t + a·Σ κ_t·h_{t−1}     dc_t = Σ_p h_t·dy_t

Phase 1 runs for h and for κ and stores both before every few pixels, from zero at the start of the chunk. Phase 2 gives
what each chunk starts from. The state at a snapshot is then the one stored plus the one on entry times the decay between
them. So the last kernel needs no order: each of its threads has a few pixels of a chunk, of one head. It rebuilds their
states, walks back through them, and loops over channels with the sums for db and dc in registers. Threads exchange
nothing; XLA sums over heads and, for da, over threads.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.mosaic_call import LANES, launch
from m3sr_kernels.ssd_scan.mosaic_program import Plan, chunk_states, states_on_entry_of_chunks

Pixels = list[jax.Array]  # a number a pixel, in the order of the direction, each with one chunk a lane


def scan_gradient(
    plan: Plan,
    x: jax.Array,
    steps: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    dy: jax.Array,
    dlast: jax.Array | None = None,
) -> tuple[jax.Array, ...]:
    """The cotangents of the arguments of `mosaic.scan`, in their shapes and in float32.

    Args:
      plan: of the scan.
      x: as there; so are steps, a, b and c.
      steps: Δ.
      a: rates.
      b: input maps.
      c: output maps.
      dy: (B, L, R, P) cotangent of y.
      dlast: (B, K, N, R, P) cotangent of the last states; None for zero.
    """
    arrays = {"x": x, "steps": steps, "b": b, "c": c, "dy": dy}
    arrays = {name: plan.by_chunk(array) for name, array in arrays.items()}
    arrays["a"] = a.astype(jnp.float32)
    both = {name: arrays[name] for name in ("steps", "a")}
    forward, against = both | {"x": arrays["x"], "b": arrays["b"]}, both | {"x": arrays["dy"], "b": arrays["c"]}
    past = chunk_states(plan, forward, "ssd_chunk_states_backward", snapshots=True)
    future = chunk_states(plan, against, "ssd_chunk_cotangents_backward", adjoint=True, snapshots=True)
    arrays |= {"states": past["snapshots"], "cotangents": future["snapshots"]}
    arrays["states on entry"], _ = states_on_entry_of_chunks(plan, both, past["states"], adjoint=False)
    arrays["cotangents on entry"], _ = states_on_entry_of_chunks(plan, both, future["states"], dlast, adjoint=True)
    found = _gradients(plan, arrays)
    heads, groups = x.shape[2], b.shape[3]
    for name in ("db", "dc"):
        by_group = found[name].reshape(*found[name].shape[:2], groups, heads // groups, *found[name].shape[3:])
        found[name] = by_group.sum(3)
    dx, dsteps, db, dc = (plan.by_pixel(found[name]) for name in ("dx", "dsteps", "db", "dc"))
    return dx, dsteps, found["da"].sum((0, 3)), db, dc


def _gradients(plan: Plan, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """dx (Q, R, P, M), dsteps (Q, K, R, M), db and dc (Q, K, R, N, M), and da (blocks, K, R, M)."""
    Q, R, _, M = arrays["x"].shape
    K, N = arrays["b"].shape[1::2][:2]
    blocks = (Q // plan.snapshot, plan.snapshot)
    shapes: dict[str, tuple[int, ...]] = {"dx": arrays["x"].shape, "dsteps": arrays["steps"].shape}
    shapes |= {"db": (Q, K, R, N, M), "dc": (Q, K, R, N, M)}
    outputs: dict[str, Any] = {name: ((*blocks, *shape[1:]), jnp.float32) for name, shape in shapes.items()}
    outputs["da"] = ((blocks[0], K, R, M), jnp.float32)
    arrays = arrays | {n: arrays[n].reshape(*blocks, *arrays[n].shape[1:]) for n in ("x", "steps", "b", "c", "dy")}
    arrays["decay before"], arrays["decay after"] = _decays(arrays["steps"].sum(1), arrays["a"])

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        for direction in range(K):
            _direction(_Block(number, refs, direction), plan.states)

    programs = M // LANES * R * blocks[0]
    found = launch("ssd_gradients_backward", kernel, arrays, outputs, programs, interpret=plan.interpret)
    return found | {name: found[name].reshape(shape) for name, shape in shapes.items()}


def _decays(steps: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decays from the start of a chunk to each block and from each block to the end, from the steps of the blocks.

    Args:
      steps: (blocks, K, R, M).
      a: (K, R).
    """
    start, end = jnp.zeros_like(steps[:1]), jnp.zeros_like(steps[:1])
    before = jnp.cumsum(jnp.concatenate([start, steps[:-1]]), 0)
    after = jnp.cumsum(jnp.concatenate([steps[1:], end])[::-1], 0)[::-1]
    return jnp.exp(before * a[None, :, :, None]), jnp.exp(after * a[None, :, :, None])


class _Block:
    """A program's place: some pixels of `LANES` chunks, one head, in one direction."""

    def __init__(self, number: jax.Array, refs: dict[str, Any], direction: int) -> None:
        blocks, size, heads, _, _ = refs["x"].shape
        number, self.block = divide(number, blocks)
        number, self.head = divide(number, heads)
        self.group, _ = divide(self.head, heads // refs["b"].shape[3])
        self.lanes = pl.ds(number * LANES, LANES)
        self.refs, self.direction = refs, direction
        self.order = range(size)[::-1] if direction else range(size)

    def read(self, name: str, *index: Any) -> Pixels:
        """One number a pixel."""
        ref = self.refs[name]
        return [ref[(self.block, t, *index, self.lanes)].astype(jnp.float32) for t in self.order]

    def write(self, name: str, *index: Any, values: Pixels) -> None:
        """Writes one number a pixel."""
        for t, value in zip(self.order, values, strict=True):
            self.refs[name][(self.block, t, *index, self.lanes)] = value

    def parameter(self, name: str) -> jax.Array:
        """A number of this block and head: one of the decays."""
        return self.refs[name][self.block, self.direction, self.head, self.lanes]

    def state(self, name: str, n: int, p: Any, decay: jax.Array) -> jax.Array:
        """h before the block or κ after it: the snapshot, and what has come from other chunks."""
        place = (n, self.head, p, self.lanes)
        on_entry = self.refs[f"{name} on entry"][(self.direction, *place)]
        return self.refs[name][(self.direction, self.block, *place)] + decay * on_entry


def _direction(block: _Block, at_once: int) -> None:
    """All gradients of one direction; that of x is added to what the direction before has written."""
    direction, head, refs = block.direction, block.head, block.refs
    P, N = refs["x"].shape[3], refs["b"].shape[4]
    steps, rate = block.read("steps", direction, head), refs["a"][direction, head]
    decays = [jnp.exp(step * rate) for step in steps]
    before, after = (block.parameter(f"decay {name}") for name in ("before", "after")[:: -1 if direction else 1])
    zeros = [jnp.minimum(steps[0], 0.0)] * len(steps)  # Δ ≥ 0; the layout of jnp.zeros would differ from the carry's
    sums = (zeros, zeros)
    for first in range(0, N, at_once):
        states = range(first, min(first + at_once, N))
        maps = [[block.read(name, direction, block.group, n) for name in ("b", "c")] for n in states]

        def add_channel(p, carry, states=states, maps=maps, adds=bool(direction or first)):
            (dsteps, dlogs), of_maps = carry
            x, dy = (block.read(name, head, p) for name in ("x", "dy"))
            u, du, new = _products(steps, x), None, []
            for n, (b, c), (db, dc) in zip(states, maps, of_maps, strict=True):
                h = _states(block.state("states", n, p, before), decays, b, u)
                cotangents, carried = _cotangents(block.state("cotangents", n, p, after), decays, c, dy)
                of_u = _products(b, cotangents)
                du = of_u if du is None else _sums(du, of_u)
                dlogs = _sums(dlogs, _products(carried, h[:-1]))
                new.append((_sums(db, _products(cotangents, u)), _sums(dc, _products(h[1:], dy))))
            dx = _products(steps, du)
            block.write("dx", head, p, values=_sums(block.read("dx", head, p), dx) if adds else dx)
            return (_sums(dsteps, _products(x, du)), dlogs), new

        sums, of_maps = jax.lax.fori_loop(0, P, add_channel, (sums, [(zeros, zeros) for _ in states]))
        for n, values in zip(states, of_maps, strict=True):
            for name, of_map in zip(("db", "dc"), values, strict=True):
                block.write(name, direction, head, n, values=of_map)
    dsteps, dlogs = sums
    block.write("dsteps", direction, head, values=[by_x + rate * by_log for by_x, by_log in zip(*sums, strict=True)])
    refs["da"][block.block, direction, head, block.lanes] = sum(_products(steps, dlogs), 0.0)


def _states(h: jax.Array, decays: Pixels, b: Pixels, u: Pixels) -> Pixels:
    """The states of one n: before the block, and after each pixel."""
    states = [h]
    for decay, b_t, u_t in zip(decays, b, u, strict=True):
        states.append(decay * states[-1] + b_t * u_t)
    return states


def _cotangents(carried: jax.Array, decays: Pixels, c: Pixels, dy: Pixels) -> tuple[Pixels, Pixels]:
    """λ_t and κ_t of one n, from the κ after the block."""
    cotangents, handed_on = list[jax.Array](), list[jax.Array]()
    for decay, c_t, dy_t in zip(decays[::-1], c[::-1], dy[::-1], strict=True):
        cotangents.insert(0, c_t * dy_t + carried)
        carried = decay * cotangents[0]
        handed_on.insert(0, carried)
    return cotangents, handed_on


def _products(left: Pixels, right: Pixels) -> Pixels:
    return [a * b for a, b in zip(left, right, strict=True)]


def _sums(left: Pixels, right: Pixels) -> Pixels:
    return [a + b for a, b in zip(left, right, strict=True)]
