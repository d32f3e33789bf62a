"""SS2D by XLA: the four directions as two pairs, rows and columns, each forward and reverse in one pass.

See `m3sr_kernels.ssd_scan.xla_columns`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from m3sr_kernels.lanes import materialise, unstack
from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence
from m3sr_kernels.ssd_scan.xla_chunked import xla_chunked_ssd_scan
from m3sr_kernels.ssd_scan.xla_columns import chunk_length, scan_columns

# An image that padding to a square enlarges by no more than this runs both pairs at once: half the compile time.
MAX_PADDING = 1.25


@jax.jit
@jax.checkpoint
def xla_ss2d_scan(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Arguments and result as `reference_ss2d_scan`.

    Channels move to the front and space to the lanes once; the row pair reads the image transposed. Nothing is flipped.
    The gradient keeps only the inputs and recomputes the rest. An image of symbolic size (`jax.export`) is scanned in
    chunks of a fixed length.
    """
    B, H, W = x.shape[:3]
    if not (isinstance(H, int) and isinstance(W, int)):
        return _scan_any_size(x, dt, a, b, c)
    log_decay = dt * a[None, None, None]

    def by_axis(array: jax.Array, head_first: bool) -> list[jax.Array]:
        """(B, H, W, 4, ·) to the row pair, transposed, and the column pair."""
        array = array.reshape(B, H, W, 2, 2, -1)  # direction k: k div 2 is reverse, k mod 2 is columns
        pairs = materialise(jnp.transpose(array, (4, 0, 5, 3, 1, 2) if head_first else (4, 0, 3, 5, 1, 2)))
        rows, columns = unstack(pairs)
        return [_swap(rows), columns]

    x = materialise(jnp.moveaxis(x, (1, 2), (-2, -1)))
    arguments = (
        [[_swap(x), x]]
        + [by_axis(v, head_first=True) for v in (dt, log_decay)]
        + [by_axis(v, head_first=False) for v in (b, c)]
    )
    rows, columns = _scan_pairs(*arguments, square=max(H, W) ** 2 <= MAX_PADDING * H * W)
    return jnp.moveaxis(materialise(_swap(rows) + columns), (-2, -1), (1, 2))


def _scan_any_size(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Runs the four sequences as four groups of heads of one SSD scan."""
    H, W = x.shape[1:3]
    x = jnp.concatenate([to_sequence(x, k) for k in range(4)], axis=2)
    dt, b, c = (jnp.concatenate([to_sequence(v[..., k, :], k) for k in range(4)], axis=2) for v in (dt, b, c))
    states = b.shape[2] // 4
    b, c = (v.reshape(*v.shape[:2], 4, states) for v in (b, c))
    y, _ = xla_chunked_ssd_scan(x, dt, a.reshape(-1), b, c)
    return functools.reduce(jnp.add, (to_image(part, k, H, W) for k, part in enumerate(jnp.split(y, 4, axis=2))))


def _scan_pairs(*arguments: list[jax.Array], square: bool) -> list[jax.Array]:
    """Scans the pairs, stacked as a batch if `square`, else one by one; each argument lists one array a pair."""
    pairs = arguments[0]
    if not square:
        return [_pair(*arrays) for arrays in zip(*arguments, strict=True)]
    side = max(pairs[0].shape[-2:])
    stacked = (jnp.concatenate([_pad(array, side, side) for array in argument]) for argument in arguments)
    results = jnp.split(_pair(*stacked), 2)
    return [y[..., : x.shape[-2], : x.shape[-1]] for x, y in zip(pairs, results, strict=True)]


def _pair(x: jax.Array, *others: jax.Array) -> jax.Array:
    """Pads the columns to whole chunks, scans them in both directions and crops the result."""
    height, width = x.shape[-2:]
    padded = height + -height % chunk_length(height)
    y, _ = scan_columns(*(_pad(array, padded, width) for array in (x, *others)))
    return y[..., :height, :]


def _pad(array: jax.Array, height: int, width: int) -> jax.Array:
    missing = (height - array.shape[-2], width - array.shape[-1])
    return jnp.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, missing[0]), (0, missing[1])])


def _swap(array: jax.Array) -> jax.Array:
    return materialise(jnp.swapaxes(array, -1, -2))
