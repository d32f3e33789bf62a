"""The definition: each direction's sequence laid out, scanned by `ssd_scan`'s own versions, put back and summed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.ssd_scan.associative import ssd_scan_associative
from m3sr_kernels.ssd_scan.reference import ssd_scan_reference


def to_sequence(image: jax.Array, direction: int) -> jax.Array:
    """(B, H, W, …) to (B, H·W, …) in the order in which `direction` visits the pixels."""
    if direction % 2:
        image = jnp.swapaxes(image, 1, 2)
    sequence = image.reshape(image.shape[0], -1, *image.shape[3:])
    return sequence[:, ::-1] if direction >= 2 else sequence


def to_image(sequence: jax.Array, direction: int, height: Any, width: Any) -> jax.Array:
    """The inverse of `to_sequence`; sizes may be symbolic."""
    if direction >= 2:
        sequence = sequence[:, ::-1]
    shape = (width, height) if direction % 2 else (height, width)
    image = sequence.reshape(sequence.shape[0], *shape, *sequence.shape[2:])
    return jnp.swapaxes(image, 1, 2) if direction % 2 else image


def _sum_of_directions(
    ssd: Callable, x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array
) -> jax.Array:
    height, width = x.shape[1:3]
    total = jnp.zeros_like(x)
    for k in range(4):
        b_k, c_k = (to_sequence(array[..., k : k + 1, :], k) for array in (b, c))
        y, _ = ssd(to_sequence(x, k), to_sequence(dt[..., k, :], k), a[k], b_k, c_k)
        total = total + to_image(y, k, height, width)
    return total


def ss2d_scan_reference(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """X (B, H, W, R, P), dt (B, H, W, 4, R) being Δ already, a (4, R), b and c (B, H, W, 4, N).

    The skip is not included.
    """
    return _sum_of_directions(ssd_scan_reference, x, dt, a, b, c)


def ss2d_scan_associative(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Arguments and result as `ss2d_scan_reference`; holds every state of a direction."""
    return _sum_of_directions(ssd_scan_associative, x, dt, a, b, c)
