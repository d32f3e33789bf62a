"""The sequence folded into columns, scanned as in `m3sr_kernels.ssd_scan.columns`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.ssd_scan.columns import chunk_length, scan_columns


@jax.jit
@jax.checkpoint
def ssd_scan_xla(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `ssd_scan_reference`.

    Heads that share b and c are one batch entry. The gradient keeps the inputs alone.
    """
    B, L, H, P = x.shape
    G, N = b.shape[2:]
    R = H // G
    T = _column_length(L)

    def columns(array: jax.Array) -> jax.Array:
        """(B, L, G·R, …) or (B, L, G, …) to (B·G, …, T, V), zeros at the end."""
        array = array.reshape(B, L, G, -1)
        array = jnp.pad(array, [(0, 0), (0, -L % T), (0, 0), (0, 0)]).reshape(B, -1, T, G, array.shape[-1])
        return jnp.transpose(array, (0, 3, 4, 2, 1)).reshape(B * G, array.shape[-1], T, -1)

    V = -(-L // T)
    dt = columns(dt).reshape(B * G, R, 1, T, V)
    log_decay = dt * jnp.tile(a.reshape(G, R), (B, 1))[:, :, None, None, None]
    y, last = scan_columns(
        columns(x).reshape(B * G, R, P, T, V), dt, log_decay, columns(b)[:, None], columns(c)[:, None]
    )
    y = jnp.transpose(y.reshape(B, G, R, P, T, V), (0, 5, 4, 1, 2, 3)).reshape(B, V * T, H, P)[:, :L]
    return y, jnp.swapaxes(last.reshape(B, H, N, P), -1, -2)


def _column_length(length: int) -> int:
    """About the square root of the length, in whole chunks, so that both the columns and the lanes are long."""
    chunk = chunk_length(1)
    return min(chunk * max(1, round(length**0.5 / chunk)), chunk * 32)
