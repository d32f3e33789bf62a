"""The four directions as two pairs: rows there and back, columns there and back. See `m3sr_kernels.ssd_scan.columns`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.lanes import materialise, unstack
from m3sr_kernels.ssd_scan.columns import chunk_length, scan_columns


@jax.checkpoint
def ss2d_scan_xla(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """x (B, H, W, R, P), dt (B, H, W, 4, R) being Δ already, a (4, R), b and c (B, H, W, 4, N); the skip is not included.

    Channels move to the front and space to the lanes once; the row pair reads the image transposed. Nothing is flipped, and forward and
    reverse share one pass. The gradient keeps the inputs alone and recomputes.
    """
    x = materialise(jnp.moveaxis(x, (1, 2), (-2, -1)))
    dt, b, c = (materialise(jnp.moveaxis(array, (3, 4), (0, 2))) for array in (dt, b, c))  # (4, B, ·, H, W)
    log_decay = dt * a[:, None, :, None, None]
    # Direction k is (k div 2: there or back, k mod 2: along rows or columns).
    rows, columns = zip(*(unstack(v.reshape(2, 2, *v.shape[1:]), axis=1) for v in (dt, log_decay, b, c)), strict=True)
    y = _pair(x, *columns) + _swap(_pair(_swap(x), *map(_swap, rows)))
    return jnp.moveaxis(materialise(y), (-2, -1), (1, 2))


def _swap(array: jax.Array) -> jax.Array:
    return materialise(jnp.swapaxes(array, -1, -2))


def _pair(x: jax.Array, dt: jax.Array, log_decay: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Pads the columns to whole chunks, scans them both ways and cuts the result back."""
    height = x.shape[-2]
    padding = [(0, 0)] * 3 + [(0, -height % chunk_length(height)), (0, 0)]
    y, _ = scan_columns(*(jnp.pad(array, padding) for array in (x, dt, log_decay, b, c)))
    return y[..., :height, :]
