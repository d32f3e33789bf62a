"""The GPU implementation: the kernels of `m3sr_kernels.ssd_scan.pallas_triton` on both axes, there and back."""

from __future__ import annotations

import jax

from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.ssd_scan.pallas_triton import make_plan, scan


def ss2d_scan_pallas_triton(
    x: jax.Array,
    dt: jax.Array,
    a: jax.Array,
    b: jax.Array,
    c: jax.Array,
    d: jax.Array,
    dt_bias: jax.Array,
    *,
    call: GpuCall,
) -> jax.Array:
    """Arguments and result of `ss2d_scan`. Reads them in pixel order: a direction is a rule from time to pixel."""
    arrays = (x, dt, a, b, c, d, dt_bias)
    return scan(make_plan(call, arrays, (x.shape[1], x.shape[2]), units=2, passes=2), *arrays)[0]
