"""SSD over sequences laid out as columns, in chunks: the XLA form behind `ssd_scan` and `ss2d_scan`.

The sequence runs down the columns of a (T, V) array, one column after the other: T is time, V the lanes on which everything is element-wise.
A chunk is Q pixels of a column. Within a chunk the recurrence is written out, y_t = Σ_s M[t,s]·x_s, and the two opposite directions share
one M (its lower and upper triangle). Between chunks only states move: chunk to column, column to column (the one sequential loop, V steps on
a small state), and back. Exponents are sums of the segments between two pixels, never differences of running sums, so that neither very
large decays nor very long sequences lose digits.

Letters here: k direction, b batch, r head, p channel of a head, n state, c chunk, q and s pixel of a chunk, v column.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from m3sr_kernels.lanes import lane_einsum, materialise, unstack

MAX_CHUNKS = 48  # states pass between the chunks of a column through a dense matrix, unrolled: longer columns take longer chunks


def chunk_length(time: int) -> int:
    """16 (measured best), more where a column would have over `MAX_CHUNKS` chunks."""
    length = 16
    while time > length * MAX_CHUNKS:
        length *= 2
    return length


def scan_columns(
    x: jax.Array, dt: jax.Array, log_decay: jax.Array, b: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scans down the columns (direction 0) and, if K = 2, also the same path backwards (direction 1); sums the two.

    Args:
      x: (B, R, P, T, V) input; T a multiple of `chunk_length(T)`. Where dt and log_decay are 0 the state passes unchanged: pad with that.
      dt: (K, B, R, T, V) Δ, after bias and softplus.
      log_decay: (K, B, R, T, V) Δ·a.
      b: (K, B, N, T, V) input maps.
      c: (K, B, N, T, V) output maps.

    Returns:
      y (B, R, P, T, V) and the last state of each direction (K, B, R, N, P).
    """
    B, R, P, T, V = x.shape
    K, N = b.shape[0], b.shape[2]
    Q = chunk_length(T)
    C = T // Q
    x = materialise(x.reshape(B, R, P, C, Q, V))
    dt, log_decay = (materialise(array.reshape(K, B, R, C, Q, V)) for array in (dt, log_decay))
    b, c = (materialise(array.reshape(K, B, N, C, Q, V)) for array in (b, c))

    after = _after(Q, K).astype(x.dtype)
    to_end = jnp.exp(lane_einsum("kqs,kbrcsv->kbrcqv", after, log_decay))
    weights = lane_einsum("kbrcqv,kbncqv->kbrncqv", to_end * dt, b)
    states = lane_einsum("kbrncqv,brpcqv->kcbrnpv", weights, x)
    entering, last = _states_on_entry(states, lane_einsum("q,kbrcqv->kbrcv", after[0, 0] * 0 + 1, log_decay))
    from_start = jnp.exp(lane_einsum("kqs,kbrcsv->kbrcqv", 1 - after, log_decay))
    readout = lane_einsum("kbrcqv,kbncqv->kbrncqv", from_start, c)
    y = lane_einsum("brcqsv,brpcsv->brpcqv", _within_chunk(log_decay, dt, b, c), x)
    for direction in zip(unstack(readout), entering, strict=True):
        y = y + lane_einsum("brncqv,cbrnpv->brpcqv", *direction)
    return materialise(y.reshape(B, R, P, T, V)), last


def _after(length: int, directions: int) -> np.ndarray:
    """[k, i, j] = 1 where direction k visits j after i."""
    later = np.triu(np.ones((length, length)), 1)
    return np.stack([later, later.T][:directions])


def _within_chunk(log_decay: jax.Array, dt: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """M[q,s] = Σ_k [k visits s no later than q]·exp(decay from s to q)·⟨c_q, b_s⟩·Δ_s, (B, R, C, Q, Q, V)."""
    K, Q = dt.shape[0], dt.shape[4]
    after = _after(Q, K).astype(dt.dtype)
    until = 1 - after
    gain = lane_einsum("kbncqv,kbncsv->kbcqsv", c, b)
    exponent, coefficient = 0.0, 0.0
    for k, arrays in enumerate(zip(unstack(log_decay), unstack(dt), unstack(gain), strict=True)):
        log_decay_k, dt_k, gain_k = arrays
        path = until[k][:, None] * after[k][None]  # [q, s, u] = 1 where u lies after s and up to q
        # For q ≠ s only one direction leads from s to q; the other one's path is empty, so the exponents add.
        exponent = exponent + lane_einsum("qsu,brcuv->brcqsv", path, log_decay_k)
        input_gain = lane_einsum("bcqsv,brcsv->brcqsv", gain_k, dt_k)
        coefficient = coefficient + until[k][None, None, None, :, :, None] * input_gain
    return coefficient * jnp.exp(exponent)


def _states_on_entry(states: jax.Array, log_decay: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """From what each chunk adds to the state to the state on entry of each chunk.

    Args:
      states: (K, C, B, R, N, P, V).
      log_decay: (K, B, R, C, V), of a whole chunk.

    Returns:
      For each direction the states on entry (C, B, R, N, P, V), and the last state (K, B, R, N, P).
    """
    K, C = states.shape[:2]
    after = _after(C, K).astype(states.dtype)
    before = after.transpose(0, 2, 1)
    to_end = jnp.exp(lane_einsum("kcd,kbrdv->kbrcv", after, log_decay))
    added = lane_einsum("kbrcv,kcbrnpv->kbrnpv", to_end, states)
    decay = jnp.exp(lane_einsum("c,kbrcv->kbrv", np.ones(C, states.dtype), log_decay))
    from_start = jnp.exp(lane_einsum("kij,kbrjv->kibrv", before, log_decay))
    entering, last = [], []
    for k, arrays in enumerate(zip(*map(unstack, (states, log_decay, added, decay, from_start)), strict=True)):
        states_k, log_decay_k, added_k, decay_k, from_start_k = arrays
        column_entry, column_last = _columns_on_entry(added_k, decay_k, reverse=k == 1)
        path = before[k][:, None] * after[k][None]  # [i, j, u] = 1 where u lies between j and i
        passed = jnp.exp(lane_einsum("iju,bruv->brijv", path, log_decay_k)) * before[k][None, None, :, :, None]
        inner = lane_einsum("brijv,jbrnpv->ibrnpv", passed, states_k)
        entering.append(inner + lane_einsum("ibrv,brnpv->ibrnpv", from_start_k, column_entry))
        last.append(column_last)
    return entering, jnp.stack(last)


def _columns_on_entry(added: jax.Array, decay: jax.Array, *, reverse: bool) -> tuple[jax.Array, jax.Array]:
    """(B, R, N, P, V) added by each column and its (B, R, V) decay to the state on entry of each column, and the last state."""

    def step(state, inputs):
        added, factor = inputs
        return factor[:, :, None, None] * state + added, state

    columns = (materialise(jnp.moveaxis(added, -1, 0)), materialise(jnp.moveaxis(decay, -1, 0)))
    last, entry = jax.lax.scan(step, jnp.zeros_like(added[..., 0]), columns, reverse=reverse)
    return materialise(jnp.moveaxis(entry, 0, -1)), last
