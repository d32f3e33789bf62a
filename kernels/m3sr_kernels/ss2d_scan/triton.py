"""SS2D by Triton: the kernels of `ssd_scan.triton` along both axes, each forward and reverse."""

from __future__ import annotations

import jax

from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.ssd_scan.triton import make_plan, scan


def triton_ss2d_scan(x, dt, a, b, c, d, dt_bias, *, call: GpuCall) -> jax.Array:
    """Arguments and result as `ss2d_scan`. Arrays stay in pixel order: a direction is a map from time to pixel."""
    arrays = (x, dt, a, b, c, d, dt_bias)
    return scan(make_plan(call, arrays, (x.shape[1], x.shape[2]), units=2, passes=2), *arrays)[0]
