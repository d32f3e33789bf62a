"""S6 by Mosaic GPU, forward only: 128 sequences side by side, one a thread, and channels one after the other.

With the sequences last, (L, D, M), whatever is read of x, dt, z, b and c is a multiple of 128 elements for any D, and
a, d and dt_bias are scalars. XLA turns the arrays round before and after, which moves about as many bytes as the scan
itself: why this is nobody's default.

Interpreted, lowered, and compiled for an H200 without one; never run on a GPU.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.mosaic_call import LANES, divide, launch, pad_lanes
from m3sr_kernels.tile_access import sigmoid

MAX_TOKENS = 16  # unrolled
CHANNELS = 2  # of a program, which share what it reads of b and c


def s6_scan_forward(interpret: bool, x, dt, a, b, c, d, z, dt_bias) -> jax.Array:
    """Arguments and result as `s6_scan`.

    Raises:
      NotImplementedError: more than 16 tokens.
    """
    if x.shape[1] > MAX_TOKENS:
        raise NotImplementedError(
            f"s6_scan: 'pallas_mosaic' takes at most {MAX_TOKENS} tokens, got {x.shape[1]}; use 'pallas_triton' "
            "or 'xla'"
        )
    M, _, D = x.shape
    arrays = {"x": x, "dt": dt, "b": b, "c": c} | ({"z": z} if z is not None else {})
    arrays = {name: pad_lanes(jnp.transpose(array, (1, 2, 0))) for name, array in arrays.items()}
    scalars = {"a": a, "d": d, "dt_bias": dt_bias}
    arrays |= {name: array.astype(jnp.float32) for name, array in scalars.items() if array is not None}
    programs = pl.cdiv(M, LANES) * pl.cdiv(D, CHANNELS)
    outputs = {"y": (arrays["x"].shape, x.dtype)}
    y = launch("s6_scan_forward", _kernel, arrays, outputs, programs, interpret=interpret)["y"]
    return jnp.transpose(y[:, :, :M], (2, 0, 1))


def _kernel(program: jax.Array, refs: dict[str, Any]) -> None:
    """`CHANNELS` channels of `LANES` sequences; past the last channel it is done once more, to the same end.

    Programs of the same sequences follow one another.
    """
    L, D, _ = refs["x"].shape
    row, block = divide(program, pl.cdiv(D, CHANNELS))
    lanes = pl.ds(row * LANES, LANES)
    channels = [jnp.minimum(block * CHANNELS + i, D - 1) for i in range(CHANNELS)]
    tokens = range(L)

    def read(name: str, t: int, index: Any) -> jax.Array:
        return refs[name][t, index, lanes].astype(jnp.float32)

    def scalar(name: str, *index: Any) -> jax.Array:
        return refs[name][index] if name in refs else jnp.float32(0)

    x = [[read("x", t, k) for t in tokens] for k in channels]
    steps = [[_softplus(read("dt", t, k) + scalar("dt_bias", k)) for t in tokens] for k in channels]

    def add_state(n, y):
        b, c = ([read(name, t, n) for t in tokens] for name in ("b", "c"))
        out = []
        for k, x_k, steps_k, y_k in zip(channels, x, steps, y, strict=True):
            rate, h, row = refs["a"][k, n], jnp.zeros(LANES, jnp.float32), []
            for t in tokens:
                h = jnp.exp(steps_k[t] * rate) * h + steps_k[t] * x_k[t] * b[t]
                row.append(y_k[t] + c[t] * h)
            out.append(row)
        return out

    start = [[scalar("d", k) * x_t for x_t in x_k] for k, x_k in zip(channels, x, strict=True)]
    y = jax.lax.fori_loop(0, refs["a"].shape[1], add_state, start)
    for k, y_k in zip(channels, y, strict=True):
        for t, value in enumerate(y_k):
            z = read("z", t, k) if "z" in refs else None
            gated = value if z is None else value * z * sigmoid(z)
            refs["y"][t, k, lanes] = gated.astype(refs["y"].dtype)


def _softplus(x: jax.Array) -> jax.Array:
    """Without log1p, which Mosaic GPU lacks: with u = 1 + e rounded, log(u)·e/(u − 1) is as exact."""
    e = jnp.exp(-jnp.abs(x))
    u = 1 + e
    vanishes = u == 1
    log1p = jnp.where(vanishes, e, jnp.log(u) * e / jnp.where(vanishes, jnp.ones_like(u), u - 1))
    return jnp.maximum(x, 0) + log1p
