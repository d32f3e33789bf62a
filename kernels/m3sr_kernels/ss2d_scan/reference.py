"""The definition: each direction's sequence laid out, scanned by `ssd_scan`'s definition, put back and summed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence
from m3sr_kernels.ssd_scan.reference import reference_ssd_scan


def reference_ss2d_scan(
    x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array, *, ssd: Callable = reference_ssd_scan
) -> jax.Array:
    """Sums the directions, each scanned by `ssd`, without the skip.

    Arguments and result as `ss2d_scan`, but x is (B, H, W, R, P) and dt is Δ, after bias and softplus.
    """
    H, W = x.shape[1:3]
    total = jnp.zeros_like(x)
    for k in range(4):
        b_k, c_k = (to_sequence(array[..., k : k + 1, :], k) for array in (b, c))
        y, _ = ssd(to_sequence(x, k), to_sequence(dt[..., k, :], k), a[k], b_k, c_k)
        total = total + to_image(y, k, H, W)
    return total
