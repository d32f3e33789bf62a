"""SSD by Mosaic GPU: 128 chunks side by side, one a thread, for sequences and images.

It has the three phases of `ssd_scan.triton`, with the chunks of all sequences on the last axis of every array,
(Q, …, chunks). Each thread walks through its chunk, for a few channels of one head, with their states in registers.
XLA rearranges x, Δ, b and c for that, for an image once by rows and once by columns, and then y. This moves several
times as much as the scan itself has to, so this implementation is the default only where jax has no Triton.

Tested in the interpreter, lowered, and compiled for an H200; never run on a GPU.

Letters: B batch, L sequence length, Q pixels a chunk, C chunks, M chunks of all sequences, K directions, R heads,
G groups of heads that share b and c, P channels a head, N states.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.mosaic_call import Arrays, launch, with_gradient
from m3sr_kernels.ssd_scan.mosaic_backward import scan_gradient
from m3sr_kernels.ssd_scan.mosaic_program import Plan, Program, State, chunk_states, states_on_entry_of_chunks
from m3sr_kernels.tiles import tiles


def _forward(interpret: bool, x, dt, a, b, c, d, dt_bias) -> tuple[jax.Array, jax.Array]:
    y, last = scan(make_plan(x, interpret), _one_direction(x, _step_sizes(dt, dt_bias), a, b, c))
    if d is not None:
        y = y + d.astype(jnp.float32)[None, None] * x.astype(jnp.float32)
    return y.astype(x.dtype), jnp.moveaxis(last[:, 0], 1, -1)


def _backward(interpret: bool, arrays: Arrays, cotangents: tuple[jax.Array, jax.Array]) -> Arrays:
    """The cotangents of the op's arguments, in their dtypes, from those of y and the last states."""
    x, dt, a, b, c, d, dt_bias = arrays
    dy, dlast = cotangents
    steps, of_steps = jax.vjp(_step_sizes, dt, dt_bias)
    dlast = jnp.moveaxis(dlast, -1, 1)[:, None]
    arguments = _one_direction(x, steps, a, b, c)
    dx, dsteps, da, db, dc = scan_gradient(make_plan(x, interpret), arguments, dy, dlast)
    dd = None
    if d is not None:
        wide_dy = dy.astype(jnp.float32)
        dx = dx + d.astype(jnp.float32)[None, None] * wide_dy
        dd = jnp.sum(x.astype(jnp.float32) * wide_dy, (0, 1))
    ddt, ddt_bias = of_steps(dsteps[:, :, 0])
    gradients = (dx, ddt, da[0], db[:, :, 0], dc[:, :, 0], dd, ddt_bias)
    return jax.tree.map(lambda array, gradient: gradient.astype(array.dtype), arrays, gradients)


def _step_sizes(dt: jax.Array, dt_bias: jax.Array | None) -> jax.Array:
    bias = jnp.float32(0) if dt_bias is None else dt_bias.astype(jnp.float32)[None, None]
    return jax.nn.softplus(dt.astype(jnp.float32) + bias)


def _one_direction(x: jax.Array, steps: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> Arrays:
    """Arguments of `scan` with K = 1."""
    return x, steps[:, :, None], a[None], b[:, :, None], c[:, :, None]


mosaic_ssd_scan = with_gradient(_forward, _backward)


def make_plan(x: jax.Array, interpret: bool) -> Plan:
    """Plans a scan of x (B, L, …), with the tile sizes for the local GPU."""
    return Plan(**tiles("ssd_mosaic"), batch=x.shape[0], length=x.shape[1], interpret=interpret)


def scan(plan: Plan, arguments: Arrays) -> tuple[jax.Array, jax.Array]:
    """Scans sequences forward, and if K = 2 also in reverse; sums the two, without the skip.

    Args:
      plan: from `make_plan`.
      arguments: x (B, L, R, P); Δ (B, L, K, R), after bias and softplus, float32; a (K, R) decay rates; b and c
        (B, L, K, G, N) input and output maps.

    Returns:
      y (B, L, R, P) and the last states (B, K, N, R, P), in float32.
    """
    x, steps, a, b, c = arguments
    arrays = {name: plan.by_chunk(array) for name, array in {"x": x, "steps": steps, "b": b}.items()}
    arrays["a"] = a.astype(jnp.float32)
    added = chunk_states(plan, arrays, "ssd_chunk_states")["states"]
    arrays["entering"], last = states_on_entry_of_chunks(plan, arrays, added, adjoint=False)
    arrays["c"] = plan.by_chunk(c)
    return plan.by_pixel(_outputs(plan, arrays)), last


def _outputs(plan: Plan, arrays: dict[str, jax.Array]) -> jax.Array:
    """Phase 3: y (Q, R, P, M), float32; the second direction adds to what the first has written."""

    def kernel(number: jax.Array, refs: dict[str, Any]) -> None:
        for direction in range(refs["b"].shape[1]):
            _outputs_of(Program(plan, number, refs, direction), adds=direction > 0)

    outputs, programs = {"y": (arrays["x"].shape, jnp.float32)}, plan.programs(arrays["x"])
    return launch("ssd_outputs", kernel, arrays, outputs, programs, interpret=plan.interpret)["y"]


def _outputs_of(program: Program, *, adds: bool) -> None:
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
