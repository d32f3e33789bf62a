"""SSD by XLA: folds the sequence into columns and scans those, see `m3sr_kernels.ssd_scan.xla_columns`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from m3sr_kernels.ssd_scan.xla_columns import chunk_length, scan_columns


@jax.jit
@jax.checkpoint
def xla_ssd_scan(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `reference_ssd_scan`.

    Heads that share b and c form one batch entry. The gradient keeps only the inputs.
    """
    B, L, R, P = x.shape
    G, N = b.shape[2:]
    per_group = R // G
    T = _column_length(L)

    def columns(array: jax.Array) -> jax.Array:
        """(B, L, R, …) or (B, L, G, …) to (B·G, …, T, V), zeros at the end."""
        array = array.reshape(B, L, G, -1)
        array = jnp.pad(array, [(0, 0), (0, -L % T), (0, 0), (0, 0)]).reshape(B, -1, T, G, array.shape[-1])
        return jnp.transpose(array, (0, 3, 4, 2, 1)).reshape(B * G, array.shape[-1], T, -1)

    V = -(-L // T)
    dt = columns(dt).reshape(B * G, per_group, 1, T, V)
    log_decay = dt * jnp.tile(a.reshape(G, per_group), (B, 1))[:, :, None, None, None]
    y, last = scan_columns(
        columns(x).reshape(B * G, per_group, P, T, V), dt, log_decay, columns(b)[:, None], columns(c)[:, None]
    )
    y = jnp.transpose(y.reshape(B, G, per_group, P, T, V), (0, 5, 4, 1, 2, 3)).reshape(B, V * T, R, P)[:, :L]
    return y, jnp.swapaxes(last.reshape(B, R, N, P), -1, -2)


def _column_length(length: int) -> int:
    """About the square root of the length in whole chunks, so that both columns and lanes are long."""
    chunk = chunk_length(1)
    return min(chunk * max(1, round(length**0.5 / chunk)), chunk * 32)
