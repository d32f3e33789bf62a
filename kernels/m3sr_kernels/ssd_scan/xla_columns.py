"""SSD over sequences laid out as columns, in chunks: the XLA form behind `ssd_scan` and `ss2d_scan`.

The sequence runs down the columns of a (T, V) array, one column after the other: T is time, and V the lanes, on which
every operation is element-wise. A chunk is Q pixels of a column. Within a chunk the recurrence is a matrix product,
y_q = Σ_s M[q,s]·x_s, and the two opposite directions share one M (its lower and upper triangle). Between chunks only
states move: from chunks to columns, from column to column (the only sequential loop, V steps on a small state), and
back. Exponents are sums over the path between two pixels, never differences of running sums, so neither large decays
nor long sequences lose digits.

Letters: B batch, R heads, K directions, N states, P channels a head, C chunks, q and s pixels of a chunk, V columns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from m3sr_kernels.lanes import lane_einsum, materialise, unstack

# A dense, unrolled matrix passes states between the chunks of a column, so longer columns need longer chunks.
MAX_CHUNKS = 48


def chunk_length(time: int) -> int:
    """16 pixels (measured best), or more to keep a column within `MAX_CHUNKS` chunks."""
    length = 16
    while time > length * MAX_CHUNKS:
        length *= 2
    return length


def scan_columns(
    x: jax.Array, dt: jax.Array, log_decay: jax.Array, b: jax.Array, c: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scans down the columns (direction 0) and, if K = 2, also the same path backwards (direction 1); sums the two.

    Args:
      x: (B, R, P, T, V) input; T is a multiple of `chunk_length(T)`. Zeros in dt and log_decay, as padding,
        leave the state unchanged.
      dt: (B, R, K, T, V) Δ, after bias and softplus.
      log_decay: (B, R, K, T, V) Δ·a.
      b: (B, K, N, T, V) input maps.
      c: (B, K, N, T, V) output maps.

    Returns:
      y (B, R, P, T, V) and the last state of each direction (B, R, K, N, P).
    """
    B, R, P, T, V = x.shape
    K, N = b.shape[1:3]
    Q = chunk_length(T)
    C = T // Q
    x = materialise(x.reshape(B, R, P, C, Q, V))
    dt, log_decay = (materialise(array.reshape(B, R, K, C, Q, V)) for array in (dt, log_decay))
    b, c = (materialise(array.reshape(B, K, N, C, Q, V)) for array in (b, c))

    after = _after(Q, K).astype(x.dtype)
    edges = jnp.exp(lane_einsum("ekqs,brkcsv->ebrkcqv", np.stack([after, 1 - after]), log_decay))
    to_end, from_start = unstack(edges)
    gain = lane_einsum("brkcqv,bkncqv->brkncqv", dt, b)
    weights = lane_einsum("brkcqv,brkncqv->brkncqv", to_end, gain)
    states = lane_einsum("brmcqv,brpcqv->brmpcv", weights.reshape(B, R, K * N, C, Q, V), x)
    chunk_decay = lane_einsum("q,brkcqv->brkcv", np.ones(Q, x.dtype), log_decay)
    entering, last = _states_on_entry(states.reshape(B, R, K, N, P, C, V), chunk_decay)
    readout = lane_einsum("brkcqv,bkncqv->brkncqv", from_start, c).reshape(B, R, K * N, C, Q, V)
    y = lane_einsum("brmcqv,brmpcv->brpcqv", readout, entering.reshape(B, R, K * N, P, C, V))
    y = y + lane_einsum("brcqsv,brpcsv->brpcqv", _within_chunk(log_decay, gain, c), x)
    return materialise(y.reshape(B, R, P, T, V)), last


def _after(length: int, directions: int) -> np.ndarray:
    """The mask [k, i, j], 1 where direction k visits j after i."""
    later = np.triu(np.ones((length, length)), 1)
    return np.stack([later, later.T][:directions])


def _within_chunk(log_decay: jax.Array, gain: jax.Array, c: jax.Array) -> jax.Array:
    """M[q,s] = Σ_k [k visits s no later than q]·exp(decay from s to q)·⟨c_q, b_s⟩·Δ_s, (B, R, C, Q, Q, V)."""
    B, R, K, C, Q, V = log_decay.shape
    after = _after(Q, K).astype(log_decay.dtype)
    until = 1 - after
    path = until[:, :, None] * after[:, None]  # [k, q, s, u] = 1 where k visits u after s and up to q
    # For q ≠ s only one direction leads from s to q and the other path is empty, so one exponent serves both.
    path = np.moveaxis(path, 0, 2).reshape(Q, Q, K * Q)
    both = jnp.moveaxis(log_decay, 2, 3).reshape(B, R, C, K * Q, V)
    exponent = lane_einsum("qsu,brcuv->brcqsv", path, both)
    products = unstack(lane_einsum("bkncqv,brkncsv->kbrcqsv", c, gain))
    visited = [mask[None, None, None, :, :, None] * product for mask, product in zip(until, products, strict=True)]
    return sum(visited) * jnp.exp(exponent)


def _states_on_entry(states: jax.Array, log_decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The state on entry of each chunk.

    Args:
      states: (B, R, K, N, P, C, V) what each chunk adds.
      log_decay: (B, R, K, C, V) logarithm of a whole chunk's decay.

    Returns:
      The states on entry, in the shape of `states`, and the last state (B, R, K, N, P).
    """
    K, C = log_decay.shape[2:4]
    path, reached = (array.astype(states.dtype) for array in _chunk_paths(C, K))
    decay = jnp.exp(lane_einsum("kiju,brkuv->brkijv", path, log_decay)) * reached[None, None, :, :, :, None]
    to_chunks, to_end = decay[:, :, :, :C], decay[:, :, :, C]
    added = lane_einsum("brkjv,brknpjv->brknpv", to_end[:, :, :, 1:], states)
    entry, last = _columns_on_entry(added, to_end[:, :, :, 0])
    sources = jnp.concatenate([entry[..., None, :], states], axis=-2)
    return lane_einsum("brkijv,brknpjv->brknpiv", to_chunks, sources), last


def _chunk_paths(chunks: int, directions: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths between the chunks of a column.

    Targets i are the entries of the chunks and then the end of the column; sources j are the entry of the column and
    then the ends of the chunks.

    Returns:
      path [k, i, j, u], 1 where direction k passes chunk u on its way from source j to target i, and reached [k, i, j],
      1 where i comes no earlier than j.
    """
    i, j, u = np.ogrid[: chunks + 1, : chunks + 1, :chunks]
    path, reached = (u >= j) & (u < i), (i >= j)[..., 0]
    back = np.arange(chunks)[::-1]
    targets, sources = np.append(back, chunks), np.append(0, back + 1)
    path = np.stack([path, path[targets][:, sources][:, :, back]])
    reached = np.stack([reached, reached[targets][:, sources]])
    return path[:directions], reached[:directions]


def _columns_on_entry(added: jax.Array, decay: jax.Array) -> tuple[jax.Array, jax.Array]:
    """States on entry and the last state, from what each column adds (B, R, K, N, P, V) and its decay (B, R, K, V)."""

    def in_order(array: jax.Array) -> jax.Array:
        """The columns in the order of each direction; its own inverse."""
        there, *back = unstack(array, axis=2)
        return jnp.stack([there, *(jnp.flip(part, -1) for part in back)], axis=2)

    def step(state, inputs):
        added, factor = inputs
        return factor[..., None, None] * state + added, state

    columns = tuple(materialise(jnp.moveaxis(in_order(array), -1, 0)) for array in (added, decay))
    last, entry = jax.lax.scan(step, jnp.zeros_like(added[..., 0]), columns)
    return materialise(in_order(jnp.moveaxis(entry, 0, -1))), last
