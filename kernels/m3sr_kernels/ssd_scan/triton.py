"""SSD by Triton, in three phases.

1. What each chunk adds to the state (`triton_forward.chunk_states`).
2. The state on entry of each chunk (`triton_between_chunks.states_on_entry`).
3. The outputs (`triton_forward.outputs`).

The gradient keeps the arguments and the states on entry. Its phases mirror these: what each chunk's outputs add to the
cotangent of the state, phase 2 with time reversed, and the gradients of the arguments (`triton_backward`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp

from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.ssd_scan.triton_backward import gradients
from m3sr_kernels.ssd_scan.triton_between_chunks import states_on_entry
from m3sr_kernels.ssd_scan.triton_forward import chunk_states, outputs
from m3sr_kernels.ssd_scan.triton_geometry import LANES, Geometry
from m3sr_kernels.tiles import tiles


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static facts of a scan: its geometry, forward and in the gradient, and how the kernels are called.

    The gradient needs more registers, so its programs take fewer heads.
    """

    forward: Geometry
    gradient: Geometry
    call: GpuCall


def triton_ssd_scan(x, dt, a, b, c, d, dt_bias, *, call: GpuCall) -> tuple[jax.Array, jax.Array]:
    """Arguments as `ssd_scan`; returns y and the last state (B, R, P, N)."""
    B, L, R, P = x.shape
    G, N = b.shape[2:]
    d = jnp.zeros((R, P), x.dtype) if d is None else d
    dt_bias = jnp.zeros(R, dt.dtype) if dt_bias is None else dt_bias
    arrays = (x, dt, a.reshape(G, -1), b, c, d.reshape(G, -1, P), dt_bias.reshape(G, -1))
    y, last = scan(make_plan(call, arrays, (1, L), units=G, passes=1), *arrays)
    return y, jnp.moveaxis(last, 2, -1).reshape(B, R, P, N)


def make_plan(call: GpuCall, arrays: tuple[jax.Array, ...], size: tuple[int, int], *, units: int, passes: int) -> Plan:
    """Plans a scan, with the op's tile sizes for the local GPU.

    Args:
      call: calls the kernels; its op is a key of the tile table.
      arrays: the arrays that `scan` will get.
      size: height and width of the image; 1 and L for a sequence.
      units: see `Geometry`.
      passes: see `Geometry`.
    """
    x, _, a, b, *_ = arrays
    sizes = tiles(call.op)
    heads, gradient_heads, programs = (sizes.pop(name) for name in ("heads", "gradient_heads", "programs"))
    longest = Geometry(
        batch=x.shape[0],
        height=size[0],
        width=size[1],
        heads=a.shape[1],
        head_width=arrays[5].shape[-1],
        states=b.shape[-1],
        units=units,
        passes=passes,
        dtype=accumulation_dtype(*arrays),
        head_block=heads,
        **sizes,
        interpret=call.interpret,
    )
    forward = dataclasses.replace(longest, chunk=chunk_length(longest, programs))
    return Plan(forward, dataclasses.replace(forward, head_block=gradient_heads), call)


def chunk_length(geometry: Geometry, programs: int) -> int:
    """The chunk, halved until a launch over one axis has enough programs for the device, or down to `LANES` pixels.

    Long chunks move fewer states, but programs that a device waits for cost more than states.
    """
    units = 1 if geometry.passes == 2 else geometry.units
    columns, chunk = geometry.blocks * geometry.batch * units, geometry.chunk
    while chunk > LANES and columns * -(-geometry.length // chunk) < programs:
        chunk //= 2
    return chunk


def scan(plan: Plan, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scans, with a gradient of its own.

    Args:
      plan: from `make_plan`.
      *arrays: x (B, …, channels), dt (B, …, slots, R), or any shape with the same elements in the same order,
        a (slots, R), b and c (B, …, slots, N), d (slots, R, P), dt_bias (slots, R); in pixel order.

    Returns:
      y, in the shape and dtype of x, and the last states, (B, slots, N, R, P), in the dtype of the sums.
    """
    return cast(tuple[jax.Array, jax.Array], _scan(plan, *arrays))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(plan: Plan, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _scan_fwd(plan, *arrays)[0]


def _scan_fwd(plan: Plan, *arrays: jax.Array):
    g = plan.forward
    flat = [jax.ShapeDtypeStruct((g.batch, size), g.dtype) for size in (g.states_size, g.log_decay_size)]
    last = jax.ShapeDtypeStruct((g.batch, *g.states_shape[2:]), g.dtype)
    results = (arrays[0], last, *flat)
    y, last, entering, log_decay = plan.call(functools.partial(_forward, plan), results, *arrays)
    return (y, last), (arrays, entering, log_decay)


def _scan_bwd(plan: Plan, kept: tuple[Any, ...], cotangents: tuple[jax.Array, jax.Array]):
    arrays, entering, log_decay = kept
    return plan.call(functools.partial(_backward, plan), arrays, *arrays, entering, log_decay, *cotangents)


_scan.defvjp(_scan_fwd, _scan_bwd)


@functools.partial(jax.jit, static_argnums=0)  # traced once for all layers of a shape
def _forward(plan: Plan, x, dt, a, b, c, d, dt_bias):
    g = plan.forward
    within = chunk_states(g, {"x": x, "b": b, "dt": dt, "a": a[None], "dt_bias": dt_bias[None]}, adjoint=False)
    entering, last = states_on_entry(g, within["states"], within["log_decay"], adjoint=False)
    steps = {name: within[name] for name in ("delta", "decay")}
    y = outputs(g, {"x": x, "b": b, "c": c, "d": d[None], "entering": entering, **steps}, x.dtype)
    return y.reshape(x.shape), last, entering, within["log_decay"]


@functools.partial(jax.jit, static_argnums=0)
def _backward(plan: Plan, x, dt, a, b, c, d, dt_bias, entering, log_decay, dy, dlast):
    g = plan.gradient
    parameters = {"dt": dt, "a": a[None], "dt_bias": dt_bias[None]}
    within = chunk_states(plan.forward, {"dy": dy, "c": c, **parameters}, adjoint=True)
    of_last = dlast if g.passes == 1 else None  # the last states of an image are unused
    leaving, _ = states_on_entry(g, within["states"], log_decay, adjoint=True, initial=of_last)
    arrays = {"x": x, "b": b, "c": c, "d": d[None], "dy": dy, "entering": entering, "leaving": leaving, **parameters}
    grads = gradients(g, arrays | {name: within[name] for name in ("delta", "decay")})
    inputs = {"x": x, "dt": dt, "a": a, "b": b, "c": c, "d": d, "dt_bias": dt_bias}
    return tuple(grads[name].reshape(array.shape).astype(array.dtype) for name, array in inputs.items())
