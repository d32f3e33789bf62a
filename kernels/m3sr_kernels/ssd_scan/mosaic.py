"""SSD by Mosaic GPU: 128 chunks side by side, one a thread, for sequences and images.

It has the three phases of `ssd_scan.triton`, with the chunks of all sequences on the last axis of every array,
(Q, …, chunks). Each thread walks through its chunk, for a few channels of one head, with their states in registers.
XLA rearranges x, Δ, b and c for that, for an image once by rows and once by columns, and then y. This moves several
times as much as the scan itself has to, so this implementation is the default only where jax has no Triton. Its
gradient is that of "xla".

Tested in the interpreter, lowered, and compiled for an H200; never run on a GPU.

Letters: B batch, L sequence length, Q pixels a chunk, C chunks, M chunks of all sequences, K directions, R heads,
G groups of heads that share b and c, P channels a head, N states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide
from m3sr_kernels.mosaic_call import LANES, gradient_of, launch, pad_lanes, with_gradient
from m3sr_kernels.ssd_scan.api import IMPLEMENTATIONS
from m3sr_kernels.ssd_scan.chunk_states import states_on_entry
from m3sr_kernels.tiles import tiles

State = list[list[jax.Array]]  # [channel of the program][n], each with one chunk a lane


def _forward(interpret: bool, x, dt, a, b, c, d, dt_bias) -> tuple[jax.Array, jax.Array]:
    bias = jnp.float32(0) if dt_bias is None else dt_bias.astype(jnp.float32)[None, None]
    steps = jax.nn.softplus(dt.astype(jnp.float32) + bias)
    y, last = scan(x, steps[:, :, None], a[None], b[:, :, None], c[:, :, None], interpret=interpret)
    if d is not None:
        y = y + d.astype(jnp.float32)[None, None] * x.astype(jnp.float32)
    return y.astype(x.dtype), jnp.moveaxis(last[:, 0], 1, -1)


mosaic_ssd_scan = with_gradient(_forward, gradient_of(IMPLEMENTATIONS["xla"]))


def scan(
    x: jax.Array,
    steps: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    *,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    """Scans sequences forward, and if K = 2 also in reverse; sums the two, without the skip.

    Args:
      x: (B, L, R, P).
      steps: (B, L, K, R) Δ, after bias and softplus, float32.
      a: (K, R) decay rates.
      b: (B, L, K, G, N) input maps.
      c: (B, L, K, G, N) output maps.
      interpret: runs on a CPU, slowly.

    Returns:
      y (B, L, R, P) and the last states (B, K, N, R, P), in float32.
    """
    B, L, R, P = x.shape
    plan = Plan(**tiles("ssd_mosaic"), interpret=interpret)
    chunks = (B, pl.cdiv(L, plan.chunk))
    arrays = {name: plan.by_chunk(array) for name, array in {"x": x, "steps": steps, "b": b}.items()}
    arrays["a"] = a.astype(jnp.float32)
    added = jnp.moveaxis(_chunk_states(plan, arrays), -1, 0)[: B * chunks[1]]
    passed = jnp.moveaxis(arrays["steps"].sum(0), -1, 0)[: B * chunks[1]] * arrays["a"][None]
    entering, last = states_on_entry(
        added.reshape(*chunks, *added.shape[1:]), passed.reshape(*chunks, *passed.shape[1:]), [False, True][: len(a)]
    )
    arrays |= {"c": plan.by_chunk(c), "entering": pad_lanes(jnp.moveaxis(entering.reshape(added.shape), 0, -1))}
    y = jnp.moveaxis(_outputs(plan, arrays), -1, 0)[: B * chunks[1]]
    return y.reshape(B, -1, R, P)[:, :L], last


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static facts of a scan."""

    chunk: int  # pixels a thread
    channels: int  # of one head, a thread
    unroll: int  # pixels loaded at once; divides `chunk`
    interpret: bool

    def by_chunk(self, array: jax.Array) -> jax.Array:
        """(B, L, …) to (Q, …, M); zeros at the end: a Δ of 0 leaves the state unchanged."""
        padded = jnp.pad(array, [(0, 0), (0, -array.shape[1] % self.chunk)] + [(0, 0)] * (array.ndim - 2))
        return pad_lanes(jnp.moveaxis(padded.reshape(-1, self.chunk, *array.shape[2:]), 0, -1))

    def programs(self, x: jax.Array) -> int:
        """The number of programs of one direction: (chunks, head, channels of the head), the last fastest."""
        _, R, P, M = x.shape
        return M // LANES * R * pl.cdiv(P, self.channels)


def _chunk_states(plan: Plan, arrays: dict[str, jax.Array]) -> jax.Array:
    """Phase 1: what each chunk adds to the state, (K, N, R, P, M)."""
    _, K, _, N, M = arrays["b"].shape
    shape = (K, N, *arrays["x"].shape[1:3], M)

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        number, direction = divide(number, K)
        program = _Program(plan, number, refs, direction)

        def visit(pixels: list[Any], state: State) -> State:
            for loaded in [program.load(q) for q in pixels]:
                state = program.advance(state, *loaded)
            return state

        # Zeros, since Δ ≥ 0. The layout of jnp.zeros would differ from that of the loop's carry.
        start = jnp.minimum(refs["steps"][0, direction, program.head, program.lanes], 0.0)
        state = program.walk(visit, [[start] * N for _ in program.channels])
        for p, values in zip(program.channels, state, strict=True):
            for n, value in enumerate(values):
                refs["states"][direction, n, program.head, p, program.lanes] = value

    outputs, programs = {"states": (shape, jnp.float32)}, K * plan.programs(arrays["x"])
    return launch("ssd_chunk_states", kernel, arrays, outputs, programs, interpret=plan.interpret)["states"]


def _outputs(plan: Plan, arrays: dict[str, jax.Array]) -> jax.Array:
    """Phase 3: y (Q, R, P, M), float32; the second direction adds to what the first has written."""

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        for direction in range(refs["b"].shape[1]):
            _outputs_of(_Program(plan, number, refs, direction), adds=direction > 0)

    outputs, programs = {"y": (arrays["x"].shape, jnp.float32)}, plan.programs(arrays["x"])
    return launch("ssd_outputs", kernel, arrays, outputs, programs, interpret=plan.interpret)["y"]


def _outputs_of(program: _Program, *, adds: bool) -> None:
    states = range(program.refs["b"].shape[3])

    def visit(pixels: list[Any], state: State) -> State:
        loaded = [(program.load(q), program.maps("c", q), program.read("y", q) if adds else None) for q in pixels]
        for q, (inputs, c, before) in zip(pixels, loaded, strict=True):
            state = program.advance(state, *inputs)
            for i, p in enumerate(program.channels):
                products = [m * h for m, h in zip(c, state[i], strict=True)]
                program.refs["y"][q, program.head, p, program.lanes] = sum(products, before[i] if before else 0.0)
        return state

    entering = [
        [program.refs["entering"][program.direction, n, program.head, p, program.lanes] for n in states]
        for p in program.channels
    ]
    program.walk(visit, entering)


class _Program:
    """A program's place: some channels of one head, in `LANES` chunks.

    The last program of a head may compute the last channel several times, to fill its channels.
    """

    def __init__(self, plan: Plan, number: jax.Array, refs: dict[str, Any], direction: Any) -> None:
        _, heads, width, _ = refs["x"].shape
        number, block = divide(number, pl.cdiv(width, plan.channels))
        number, self.head = divide(number, heads)
        self.group, _ = divide(self.head, heads // refs["b"].shape[2])
        self.channels = [jnp.minimum(block * plan.channels + i, width - 1) for i in range(plan.channels)]
        self.lanes = pl.ds(number * LANES, LANES)
        self.plan, self.refs, self.direction = plan, refs, direction

    def walk(self, visit: Callable[[list[Any], State], State], state: State) -> State:
        """Calls `visit(pixels, state)` for every `unroll` pixels of the chunk; direction 1 starts at the end."""
        plan = self.plan

        def body(i: jax.Array, state: State) -> State:
            times = [i * plan.unroll + j for j in range(plan.unroll)]
            return visit([jnp.where(self.direction == 1, plan.chunk - 1 - t, t) for t in times], state)

        return jax.lax.fori_loop(0, plan.chunk // plan.unroll, body, state)

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
        """One step of the state, exp(Δ·a)·h + Δ·b·x."""
        decay = jnp.exp(step * self.refs["a"][self.direction, self.head])
        terms = [step * value for value in x]
        return [
            [decay * h + m * term for h, m in zip(hs, b, strict=True)] for hs, term in zip(state, terms, strict=True)
        ]
