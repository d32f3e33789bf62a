"""S6 by Mosaic GPU: 128 sequences side by side, one a thread, and a few channels a program.

With 128 sequences last, (blocks, L, D, 128), every read of x, dt, z, b and c is of 128 elements for any D; a, d and
dt_bias are read as scalars. XLA transposes the arrays before and after, which moves twice as many bytes as the scan
itself, so this implementation is the default only where jax has no Triton.

Tested in the interpreter, lowered, and compiled for an H200; never run on a GPU.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.arithmetic import divide, sigmoid, softplus
from m3sr_kernels.gpu_call import UnsupportedArgumentsError
from m3sr_kernels.mosaic_call import from_lanes, launch, to_lanes, with_gradient
from m3sr_kernels.s6_scan.mosaic_backward import LOG2_E, backward, states

MAX_TOKENS = 16  # unrolled
CHANNELS = 2  # a program; they share b and c


def _forward(interpret: bool, x, dt, a, b, c, d, z, dt_bias) -> jax.Array:
    if x.shape[1] > MAX_TOKENS:
        raise UnsupportedArgumentsError(
            f"s6_scan: 'pallas_mosaic' takes at most {MAX_TOKENS} tokens, got {x.shape[1]}; use 'pallas_triton' "
            "or 'xla'"
        )
    M, _, D = x.shape
    arrays = {"x": x, "dt": dt, "b": b, "c": c} | ({"z": z} if z is not None else {})
    arrays = {name: to_lanes(array) for name, array in arrays.items()}
    scalars = {"a": a, "d": d, "dt_bias": dt_bias}
    arrays |= {name: array.astype(jnp.float32) for name, array in scalars.items() if array is not None}
    arrays["a"] *= LOG2_E
    programs = arrays["x"].shape[0] * pl.cdiv(D, CHANNELS)
    outputs = {"y": (arrays["x"].shape, x.dtype)}
    y = launch("s6_scan_forward", _kernel, arrays, outputs, programs, interpret=interpret)["y"]
    return from_lanes(y, M)


mosaic_s6_scan = with_gradient(_forward, backward)


def _kernel(program: jax.Array, refs: dict[str, Any]) -> None:
    """Scans `CHANNELS` channels of `LANES` sequences; programs of the same sequences follow one another.

    The last program may compute the last channel several times, to fill its channels.
    """
    _, L, D, _ = refs["x"].shape
    row, block = divide(program, pl.cdiv(D, CHANNELS))
    channels = [jnp.minimum(block * CHANNELS + i, D - 1) for i in range(CHANNELS)]
    tokens = range(L)

    def read(name: str, t: int, index: Any) -> jax.Array:
        return refs[name][row, t, index].astype(jnp.float32)

    def scalar(name: str, *index: Any) -> jax.Array:
        return refs[name][index] if name in refs else jnp.float32(0)

    x = [[read("x", t, k) for t in tokens] for k in channels]
    steps = [[softplus(read("dt", t, k) + scalar("dt_bias", k), _log1p) for t in tokens] for k in channels]
    u = [[step * x_t for step, x_t in zip(*of_channel, strict=True)] for of_channel in zip(steps, x, strict=True)]

    def add_state(n, y):
        b, c = ([read(name, t, n) for t in tokens] for name in ("b", "c"))
        out = []
        for k, steps_k, u_k, y_k in zip(channels, steps, u, y, strict=True):
            h, _ = states(refs["a"][k, n], steps_k, u_k, b)
            out.append([y_t + c_t * h_t for y_t, c_t, h_t in zip(y_k, c, h, strict=True)])
        return out

    start = [[scalar("d", k) * x_t for x_t in x_k] for k, x_k in zip(channels, x, strict=True)]
    y = jax.lax.fori_loop(0, refs["a"].shape[1], add_state, start)
    for k, y_k in zip(channels, y, strict=True):
        for t, value in enumerate(y_k):
            z = read("z", t, k) if "z" in refs else None
            gated = value if z is None else value * z * sigmoid(z)
            refs["y"][row, t, k] = gated.astype(refs["y"].dtype)


def _log1p(e: jax.Array) -> jax.Array:
    """ln(1 + e), which Mosaic GPU lacks: with u = 1 + e rounded, log(u)·e/(u − 1) is as exact."""
    u = 1 + e
    vanishes = u == 1
    return jnp.where(vanishes, e, jnp.log(u) * e / jnp.where(vanishes, jnp.ones_like(u), u - 1))
