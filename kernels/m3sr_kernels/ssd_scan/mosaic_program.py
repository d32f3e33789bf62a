"""What the SSD kernels by Mosaic GPU share: their layout, a thread's walk through its chunk, and phases 1 and 2.

Letters as in `mosaic.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.mosaic_call import LANES, lanes_last, launch
from m3sr_kernels.ssd_scan.chunk_states import states_on_entry

State = list[list[jax.Array]]  # [channel of the program][n], each with one chunk a lane


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static facts of a scan."""

    chunk: int  # pixels a thread
    channels: int  # of one head, a thread
    unroll: int  # pixels loaded at once; divides `chunk`
    snapshot: int  # pixels between the states that the gradient stores; divides `chunk`
    gradient_states: int  # whose b and c a thread of the gradient holds at once
    batch: int
    length: int  # of a sequence
    interpret: bool

    def by_chunk(self, array: jax.Array) -> jax.Array:
        """(B, L, …) to (Q, …, M); zeros at the end: a Δ of 0 leaves the state unchanged."""
        padded = jnp.pad(array, [(0, 0), (0, -array.shape[1] % self.chunk)] + [(0, 0)] * (array.ndim - 2))
        return lanes_last(padded.reshape(-1, self.chunk, *array.shape[2:]))

    def by_pixel(self, array: jax.Array) -> jax.Array:
        """The inverse of `by_chunk`."""
        chunks = self.batch * pl.cdiv(self.length, self.chunk)
        array = jnp.moveaxis(array[..., :chunks], -1, 0)
        return array.reshape(self.batch, -1, *array.shape[2:])[:, : self.length]

    def programs(self, x: jax.Array) -> int:
        """The number of programs of one direction: (chunks, head, channels of the head), the last fastest."""
        _, R, P, M = x.shape
        return M // LANES * R * pl.cdiv(P, self.channels)


def states_on_entry_of_chunks(
    plan: Plan, arrays: dict[str, jax.Array], added: jax.Array, initial: jax.Array | None = None, *, adjoint: bool
) -> tuple[jax.Array, jax.Array]:
    """Phase 2, for states, or against time for their cotangents.

    Args:
      plan: of the scan.
      arrays: steps (Q, K, R, M) and a (K, R).
      added: of `chunk_states`.
      initial: (B, K, N, R, P) state before the first chunk, or cotangent of that after the last; None for zero.
      adjoint: for cotangents.

    Returns:
      The state on entry of each chunk, in the layout of `added`, and after the last one, (B, K, N, R, P).
    """
    chunks = (plan.batch, pl.cdiv(plan.length, plan.chunk))

    def by_batch(array: jax.Array) -> jax.Array:
        array = jnp.moveaxis(array, -1, 0)[: chunks[0] * chunks[1]]
        return array.reshape(*chunks, *array.shape[1:])

    backwards = [(direction == 1) != adjoint for direction in range(len(added))]
    log_decay = by_batch(arrays["steps"].sum(0)) * arrays["a"][None, None]
    entering, last = states_on_entry(by_batch(added), log_decay, backwards, initial)
    return lanes_last(entering.reshape(-1, *added.shape[:-1])), last


def chunk_states(
    plan: Plan, arrays: dict[str, jax.Array], name: str, *, adjoint: bool = False, snapshots: bool = False
) -> dict[str, jax.Array]:
    """Phase 1: what each chunk adds to the state.

    With g_t = exp(Δ_t·a), a state follows h_t = g_t·h_{t−1} + b_t·Δ_t·x_t. What its cotangent λ_t hands on against
    time, κ_t = g_t·λ_t, follows κ_t = g_t·κ_{t+1} + c_t·g_t·dy_t: `adjoint`, with dy and c in place of x and b.

    Args:
      plan: of the scan.
      arrays: x (Q, R, P, M), steps (Q, K, R, M), b (Q, K, G, N, M), a (K, R).
      name: of the kernel.
      adjoint: computes κ.
      snapshots: also returns the state before every `plan.snapshot` pixels of the walk.

    Returns:
      states (K, N, R, P, M) and, if wanted, snapshots (K, Q/plan.snapshot, N, R, P, M), both from zero at the start of
      each chunk; snapshots are in the order of the pixels.
    """
    _, K, _, N, M = arrays["b"].shape
    shape = (N, *arrays["x"].shape[1:3], M)
    outputs: dict[str, Any] = {"states": ((K, *shape), jnp.float32)}
    if snapshots:
        outputs["snapshots"] = ((K, plan.chunk // plan.snapshot, *shape), jnp.float32)

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        number, direction = divide(number, K)
        program = Program(plan, number, refs, direction, adjoint=adjoint)

        def visit(pixels: list[Any], state: State) -> State:
            for loaded in [program.load(q) for q in pixels]:
                state = program.advance(state, *loaded)
            return state

        def keep(block: jax.Array, state: State) -> None:
            program.write("snapshots", (direction, block), state)

        # Zeros, since Δ ≥ 0. The layout of jnp.zeros would differ from that of the loop's carry.
        start = jnp.minimum(refs["steps"][0, direction, program.head, program.lanes], 0.0)
        state = program.walk(visit, [[start] * N for _ in program.channels], keep if snapshots else None)
        program.write("states", (direction,), state)

    return launch(name, kernel, arrays, outputs, K * plan.programs(arrays["x"]), interpret=plan.interpret)


class Program:
    """A program's place: some channels of one head, in `LANES` chunks.

    The last program of a head may compute the last channel several times, to fill its channels.
    """

    def __init__(
        self, plan: Plan, number: jax.Array, refs: dict[str, Any], direction: Any, *, adjoint: bool = False
    ) -> None:
        _, heads, width, _ = refs["x"].shape
        number, block = divide(number, pl.cdiv(width, plan.channels))
        number, self.head = divide(number, heads)
        self.group, _ = divide(self.head, heads // refs["b"].shape[2])
        self.channels = [jnp.minimum(block * plan.channels + i, width - 1) for i in range(plan.channels)]
        self.lanes = pl.ds(number * LANES, LANES)
        self.plan, self.refs, self.direction, self.adjoint = plan, refs, direction, adjoint

    def walk(
        self,
        visit: Callable[[list[Any], State], State],
        state: State,
        keep: Callable[[jax.Array, State], None] | None = None,
    ) -> State:
        """Calls `visit(pixels, state)` for every `unroll` pixels of the chunk, in the order of the walk.

        `keep(block, state)` is called before every `snapshot` pixels.
        """
        plan = self.plan
        size = plan.snapshot if keep else plan.unroll

        def body(i: jax.Array, state: State) -> State:
            if keep:
                keep(self._in_order(i, plan.chunk // size), state)
            return visit([self._in_order(i * size + j, plan.chunk) for j in range(size)], state)

        return jax.lax.fori_loop(0, plan.chunk // size, body, state)

    def _in_order(self, i: jax.Array, count: int) -> jax.Array:
        """The i-th of so many: direction 1 starts at the end, and so do the cotangents of direction 0."""
        return jnp.where(self.direction == int(not self.adjoint), count - 1 - i, i)

    def read(self, name: str, q: Any) -> list[jax.Array]:
        """This program's channels of x or y at a pixel."""
        return [self.refs[name][q, self.head, p, self.lanes].astype(jnp.float32) for p in self.channels]

    def maps(self, name: str, q: Any) -> list[jax.Array]:
        """The N numbers of b or c at a pixel."""
        ref = self.refs[name]
        return [ref[q, self.direction, self.group, n, self.lanes].astype(jnp.float32) for n in range(ref.shape[3])]

    def load(self, q: Any) -> tuple[list[jax.Array], list[jax.Array], jax.Array]:
        """x, b and Δ at a pixel."""
        return self.read("x", q), self.maps("b", q), self.refs["steps"][q, self.direction, self.head, self.lanes]

    def advance(self, state: State, x: list[jax.Array], b: list[jax.Array], step: jax.Array) -> State:
        """One step of the state, g·h + b·Δ·x, or against time of what its cotangent hands on, g·κ + c·g·dy."""
        decay = jnp.exp(step * self.refs["a"][self.direction, self.head])
        terms = [(decay if self.adjoint else step) * value for value in x]
        return [
            [decay * h + m * term for h, m in zip(hs, b, strict=True)] for hs, term in zip(state, terms, strict=True)
        ]

    def write(self, name: str, place: tuple[Any, ...], state: State) -> None:
        """Stores the states of this program's channels."""
        for p, values in zip(self.channels, state, strict=True):
            for n, value in enumerate(values):
                self.refs[name][(*place, n, self.head, p, self.lanes)] = value
