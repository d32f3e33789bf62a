"""SS2D by Mosaic GPU: the kernels of `ssd_scan.mosaic` along both axes, each forward and reverse.

The gradient is that of "xla".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.mosaic_call import gradient_of, with_gradient
from m3sr_kernels.ss2d_scan.api import IMPLEMENTATIONS
from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence
from m3sr_kernels.ssd_scan.mosaic import scan


def _forward(interpret: bool, x, dt, a, b, c, d, dt_bias) -> jax.Array:
    B, H, W, channels = x.shape
    _, R, P = d.shape
    steps = jax.nn.softplus(dt.astype(jnp.float32) + dt_bias.astype(jnp.float32)[None, None, None])
    y = d.astype(jnp.float32).sum(0).reshape(1, 1, 1, channels) * x.astype(jnp.float32)
    for axis in range(2):  # direction `axis` and its reverse, `axis + 2`
        pixels = to_sequence(x, axis).reshape(B, H * W, R, P)
        maps = (to_sequence(array[:, :, :, axis::2], axis) for array in (steps, b[..., None, :], c[..., None, :]))
        of_axis, _ = scan(pixels, next(maps), a[axis::2], *maps, interpret=interpret)
        y = y + to_image(of_axis.reshape(B, H * W, channels), axis, H, W)
    return y.astype(x.dtype)


mosaic_ss2d_scan = with_gradient(_forward, gradient_of(IMPLEMENTATIONS["xla"]))
