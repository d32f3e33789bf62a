"""SS2D by Mosaic GPU: the kernels of `ssd_scan.mosaic` along both axes, each forward and reverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.mosaic_call import Arrays, with_gradient
from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence
from m3sr_kernels.ssd_scan.mosaic import make_plan, scan
from m3sr_kernels.ssd_scan.mosaic_backward import scan_gradient


def _forward(interpret: bool, x, dt, a, b, c, d, dt_bias) -> jax.Array:
    B, H, W, channels = x.shape
    y = d.astype(jnp.float32).sum(0).reshape(1, 1, 1, channels) * x.astype(jnp.float32)
    steps = _step_sizes(dt, dt_bias)
    for axis in range(2):
        pixels = _of_axis(axis, x, steps, a, b, c)
        of_axis, _ = scan(make_plan(pixels[0], interpret), pixels)
        y = y + to_image(of_axis.reshape(B, H * W, channels), axis, H, W)
    return y.astype(x.dtype)


def _backward(interpret: bool, arrays: Arrays, dy: jax.Array) -> Arrays:
    """The cotangents of the op's arguments, in their dtypes, from that of y."""
    x, dt, a, b, c, d, dt_bias = arrays
    B, H, W, channels = x.shape
    steps, of_steps = jax.vjp(_step_sizes, dt, dt_bias)
    wide_dy = dy.astype(jnp.float32)
    dx = d.astype(jnp.float32).sum(0).reshape(1, 1, 1, channels) * wide_dy
    dd = jnp.sum(x.astype(jnp.float32) * wide_dy, (0, 1, 2)).reshape(1, *d.shape[1:])
    found = []
    for axis in range(2):
        pixels = _of_axis(axis, x, steps, a, b, c)
        dy_of_axis = to_sequence(dy, axis).reshape(pixels[0].shape)
        dx_of_axis, dsteps, da, db, dc = scan_gradient(make_plan(dy_of_axis, interpret), pixels, dy_of_axis)
        dx = dx + to_image(dx_of_axis.reshape(B, H * W, channels), axis, H, W)
        found.append([da, *(to_image(array, axis, H, W) for array in (dsteps, db[:, :, :, 0], dc[:, :, :, 0]))])
    # Direction k goes along axis k mod 2, in reverse if k div 2 is 1.
    da, dsteps, db, dc = (jnp.stack(both, -2).reshape(*both[0].shape[:-2], 4, -1) for both in zip(*found, strict=True))
    ddt, ddt_bias = of_steps(dsteps)
    gradients = (dx, ddt, da, db, dc, jnp.broadcast_to(dd, d.shape), ddt_bias)
    return jax.tree.map(lambda array, gradient: gradient.astype(array.dtype), arrays, gradients)


def _step_sizes(dt: jax.Array, dt_bias: jax.Array) -> jax.Array:
    return jax.nn.softplus(dt.astype(jnp.float32) + dt_bias.astype(jnp.float32)[None, None, None])


def _of_axis(axis: int, x: jax.Array, steps: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> Arrays:
    """The arguments of the sequences of rows or of columns: direction `axis` and its reverse, `axis + 2`."""
    B, H, W, _ = x.shape
    pixels = to_sequence(x, axis).reshape(B, H * W, steps.shape[-1], -1)
    maps = (to_sequence(array[:, :, :, axis::2], axis) for array in (steps, b[..., None, :], c[..., None, :]))
    return pixels, next(maps), a[axis::2], *maps


mosaic_ss2d_scan = with_gradient(_forward, _backward)
