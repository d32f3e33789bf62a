"""SSD by XLA in chunks of a fixed length, for shapes known only when the program runs (`jax.export`).

`m3sr_kernels.ssd_scan.xla_columns` folds the sequence by its length, which such a program does not know. Here only the
number of chunks depends on the length: within a chunk the recurrence is a matrix, and a loop passes states between
chunks.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

CHUNK = 32
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)  # on a GPU the default would be TF32


def xla_chunked_ssd_scan(
    x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Arguments and results as `reference_ssd_scan`; B and L may be symbolic."""
    B, L, R, P = x.shape
    G, N = b.shape[2:]
    count = -(-L // CHUNK)

    def chunks(array: jax.Array) -> jax.Array:
        """(B, L, R, …) or (B, L, G, …) to (B, C, Q, G, …); zeros at the end leave the state unchanged."""
        padded = jnp.pad(array.reshape(B, L, G, -1), ((0, 0), (0, count * CHUNK - L), (0, 0), (0, 0)))
        return padded.reshape(B, count, CHUNK, G, -1)

    dt, b, c = (chunks(array) for array in (dt, b, c))
    log_decay = dt * a.reshape(1, 1, 1, G, R // G)
    x = chunks(x).reshape(*dt.shape, P)

    # path[q, s] = Σ_{s<u≤q} log decay, each summed separately: differences of running sums would lose digits.
    later = jnp.tril(jnp.ones((CHUNK, CHUNK), bool), -1)[:, :, None, None]
    path = jnp.cumsum(jnp.where(later, log_decay[:, :, :, None], 0), axis=2)
    decay = jnp.where(later | jnp.eye(CHUNK, dtype=bool)[:, :, None, None], jnp.exp(path), 0)
    overlap = _einsum("bzqgn,bzsgn->bzqsg", c, b)
    y = _einsum("bzqsg,bzqsgr,bzsgr,bzsgrp->bzqgrp", overlap, decay, dt, x)

    added = _einsum("bzsgr,bzsgn,bzsgrp->zbgrpn", decay[:, :, -1] * dt, b, x)
    from_start = jnp.exp(jnp.cumsum(log_decay, axis=2))
    across = jnp.moveaxis(from_start[:, :, -1], 1, 0)[..., None, None]

    def step(state, inputs):
        decayed, gained = inputs
        return decayed * state + gained, state

    last, entering = jax.lax.scan(step, jnp.zeros((B, G, R // G, P, N), x.dtype), (across, added))
    y = y + _einsum("bzqgn,bzqgr,zbgrpn->bzqgrp", c, from_start, entering)
    return y.reshape(B, count * CHUNK, R, P)[:, :L], last.reshape(B, R, P, N)
