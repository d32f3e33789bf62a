"""The state on entry of every chunk, from what each chunk adds, in two levels instead of a loop over the chunks.

About √C chunks form a group. A small matrix holds the decays between all pairs of chunks in a group, another one those
between all pairs of groups, so 1,928 chunks take two matrix products. Exponents are sums over the path between two
chunks, never differences of running sums, so neither large decays nor long sequences lose digits.

Letters: B batch, C chunks, K directions, N states, R heads, P channels a head; x any batch, i and j chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def states_on_entry(
    added: jax.Array, log_decay: jax.Array, backwards: Sequence[bool], initial: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Runs h_after = exp(log_decay)·h_before + added over the chunks, in the order in which each direction visits them.

    Args:
      added: (B, C, K, N, R, P) what a chunk adds to the state.
      log_decay: (B, C, K, R) logarithm of a whole chunk's decay, ≤ 0.
      backwards: for each direction, whether it visits the last chunk first.
      initial: (B, K, N, R, P) state before the first chunk; None for zero.

    Returns:
      The state on entry of each chunk, (B, C, K, N, R, P), and after the last one, (B, K, N, R, P).
    """
    chunks = added.shape[1]
    group = math.isqrt(chunks - 1) + 1
    groups = -(-chunks // group)
    added, log_decay = (_in_groups(array, groups, group) for array in (added, log_decay))
    between, from_start, to_end, _ = _decays(log_decay, backwards)
    totals = _ungroup(_einsum("xkrj,xjknrp->xknrp", to_end, added), groups)
    totals_decay = _ungroup(jnp.sum(log_decay, axis=1), groups)
    groups_between, groups_from_start, groups_to_end, through = _decays(totals_decay, backwards)
    entering = _einsum("xkrij,xjknrp->xiknrp", groups_between, totals)
    last = _einsum("xkrj,xjknrp->xknrp", groups_to_end, totals)
    if initial is not None:
        entering += _einsum("xkri,xknrp->xiknrp", groups_from_start, initial)
        last += through[:, :, None, :, None] * initial
    entering = entering.reshape(-1, *entering.shape[2:])
    result = _einsum("xkrij,xjknrp->xiknrp", between, added) + _einsum("xkri,xknrp->xiknrp", from_start, entering)
    return _ungroup(result, groups).reshape(-1, groups * group, *result.shape[2:])[:, :chunks], last


def _einsum(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(spec, left, right, precision=jax.lax.Precision.HIGHEST)


def _in_groups(array: jax.Array, groups: int, group: int) -> jax.Array:
    """(B, C, …) to (B·groups, group, …); the chunks that pad it neither add nor decay."""
    missing = groups * group - array.shape[1]
    array = jnp.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))
    return array.reshape(-1, group, *array.shape[2:])


def _ungroup(array: jax.Array, groups: int) -> jax.Array:
    """(B·groups, …) to (B, groups, …)."""
    return array.reshape(-1, groups, *array.shape[1:])


def _decays(log_decay: jax.Array, backwards: Sequence[bool]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The factors by which a state shrinks between two points of a row of chunks.

    Args:
      log_decay: (x, C, K, R).
      backwards: one flag a direction.

    Returns:
      Factors from the end of chunk j to the entry of chunk i, (x, K, R, i, j), 0 unless j comes before i; from the
      start to the entry of i, (x, K, R, i); from the end of j to the end, (x, K, R, j); from start to end, (x, K, R).
    """
    points = log_decay.shape[1] + 2  # each end counts as a chunk without decay
    path = jnp.pad(jnp.moveaxis(log_decay, 1, -1), [(0, 0)] * 3 + [(1, 1)])
    order = jnp.arange(points)
    later = order[:, None] > order[None, :]
    summands = jnp.where(later[None, None, None], path[..., :, None], jnp.zeros((), path.dtype))
    until = jnp.cumsum(summands, axis=-2)  # [i, j]: after j and up to i
    until = jnp.pad(until[..., :-1, :], [(0, 0)] * 3 + [(1, 0), (0, 0)])  # and before i
    both_ways = jnp.exp(until + jnp.swapaxes(until, -1, -2))
    reached = jnp.stack([later.T if back else later for back in backwards])
    decay = jnp.where(reached[None, :, None], both_ways, jnp.zeros((), path.dtype))

    def pick(index) -> jax.Array:
        return jnp.stack([decay[:, k][index(-1, 0) if back else index(0, -1)] for k, back in enumerate(backwards)], 1)

    inside = slice(1, -1)
    return (
        decay[..., inside, inside],
        pick(lambda start, end: (..., inside, start)),
        pick(lambda start, end: (..., end, inside)),
        pick(lambda start, end: (..., end, start)),
    )
