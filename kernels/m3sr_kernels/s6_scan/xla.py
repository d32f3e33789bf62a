"""S6 by XLA, for many short sequences: tokens in pairs, sequences on the lanes, and no state in memory.

With u = Δ·x and τ_ts = Σ_{s<r≤t} Δ_r the recurrence is y_t = Σ_{s≤t} K_ts·u_s, where

    K_ts[d] = Σ_n c_t[n]·b_s[n]·exp(a[d,n]·τ_ts[d]).

L tokens make L(L−1)/2 pairs. For each, `decayed_sum` is one fused loop with the N states in registers: for M3SR's
L = 4, six pairs instead of arrays of (sequences, 4, D, N). Above `MAX_PAIRWISE` tokens a loop over time is cheaper than
the pairs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from m3sr_kernels.lanes import by_platform, lane_einsum, materialise, unstack
from m3sr_kernels.s6_scan.reference import reference_s6_scan, step

MAX_PAIRWISE = 16
MAX_UNROLLED = 62  # channels in one loop body; with 248 a channel takes nine times as long


@jax.jit
@functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names("s6_kernel"))
def xla_s6_scan(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Arguments and result as `reference_s6_scan`.

    The gradient keeps the inputs and K but no state, and recomputes the rest.
    """
    if not isinstance(x.shape[1], int):  # a symbolic length (`jax.export`) has no square root
        return reference_s6_scan(x, dt, a, b, c)
    if x.shape[1] > MAX_PAIRWISE:
        return _over_time(x, dt, a, b, c)
    x, dt, b, c = (materialise(jnp.transpose(array)) for array in (x, dt, b, c))
    return jnp.transpose(xla_s6_scan_lanes(x, dt, a, b, c))


def xla_s6_scan_lanes(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Scans with the sequences on the last axis; a checkpoint policy knows K as "s6_kernel".

    Args:
      x: (D, L, M) input of M sequences.
      dt: (D, L, M) Δ, after bias and softplus.
      a: (D, N) negative decay rates.
      b: (N, L, M) input maps.
      c: (N, L, M) output maps.

    Returns:
      y: (D, L, M).
    """
    diagonal = unstack(lane_einsum("nlm,nlm->lm", c, b))
    u, steps, inputs, outputs = (unstack(array, axis=1) for array in (dt * x, dt, b, c))
    y = [gain[None] * u_t for gain, u_t in zip(diagonal, u, strict=True)]
    pairs = [(t, s) for t in range(len(u)) for s in range(t)]
    if pairs:
        tau = jnp.stack([sum(steps[s + 1 : t], steps[t]) for t, s in pairs])
        weights = jnp.stack([outputs[t] * inputs[s] for t, s in pairs])
        kernel = checkpoint_name(decayed_sum(tau, weights, a), "s6_kernel")
        for kernel_ts, (t, s) in zip(unstack(kernel), pairs, strict=True):
            y[t] = y[t] + kernel_ts * u[s]
    return materialise(jnp.stack(y, axis=1))


def decayed_sum(tau: jax.Array, weights: jax.Array, a: jax.Array) -> jax.Array:
    """Σ_n weights[j,n,m]·exp(a[d,n]·tau[j,d,m]).

    Args:
      tau: (J, D, M) elapsed Δ.
      weights: (J, N, M).
      a: (D, N).

    Returns:
      (J, D, M). Each part of the gradient recomputes the exponentials in its own loop: on a CPU that is cheaper than
      moving them.
    """
    return cast(jax.Array, _decayed_sum(tau, weights, a))


@jax.custom_vjp
def _decayed_sum(tau: jax.Array, weights: jax.Array, a: jax.Array) -> jax.Array:
    return _sum_over_states(tau, weights, a, factor=jnp.ones_like)


def _sum_over_states(tau: jax.Array, weights: jax.Array, a: jax.Array, *, factor: Callable) -> jax.Array:
    def unrolled(tau: jax.Array, weights: jax.Array, a: jax.Array) -> jax.Array:
        total = jnp.zeros_like(tau)
        for n in range(a.shape[1]):
            rate = a[None, :, n, None]
            total = total + factor(rate) * weights[:, n, None] * jnp.exp(rate * tau)
        return total

    def at_once(tau: jax.Array, weights: jax.Array, a: jax.Array) -> jax.Array:
        rates = a.T[None, :, :, None]
        return jnp.sum(factor(rates) * weights[:, :, None] * jnp.exp(rates * tau[:, None]), axis=1)

    return materialise(by_platform(unrolled, at_once, *map(materialise, (tau, weights, a))))


def _decayed_sum_fwd(tau: jax.Array, weights: jax.Array, a: jax.Array):
    return _decayed_sum(tau, weights, a), (tau, weights, a)


def _decayed_sum_bwd(residuals: tuple[jax.Array, jax.Array, jax.Array], cotangent: jax.Array):
    tau, weights, a = residuals
    # Tied to the cotangent, this pass differs from the forward one; else XLA would store the exponentials of both.
    tau, cotangent = jax.lax.optimization_barrier((tau, cotangent))
    by_rate = _sum_over_states(tau, weights, a, factor=lambda rate: rate)
    return (
        cotangent * by_rate,
        _weights_cotangent(tau, a, cotangent),
        _rates_cotangent(tau, weights, a, cotangent),
    )


def _weights_cotangent(tau: jax.Array, a: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Σ_d cotangent[j,d,m]·exp(a[d,n]·tau[j,d,m]), (J, N, M)."""

    def at_once(tau: jax.Array, a: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jnp.sum(jnp.exp(a[None, :, :, None] * tau[:, :, None]) * cotangent[:, :, None], axis=1)

    return by_platform(_weights_cotangent_unrolled, at_once, tau, a, cotangent)


def _weights_cotangent_unrolled(tau: jax.Array, a: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Unrolled over d, in parts, to keep the lanes vectorised."""
    J, D, M = tau.shape
    unrolled = max(size for size in range(1, MAX_UNROLLED + 1) if D % size == 0)
    tau, cotangent = (materialise(array.reshape(J, -1, unrolled, M)) for array in (tau, cotangent))
    a = materialise(a.reshape(-1, unrolled, a.shape[1]))
    total = jnp.zeros((), tau.dtype)
    for d in range(unrolled):
        total = total + jnp.exp(a[None, :, d, :, None] * tau[:, :, d, None]) * cotangent[:, :, d, None]
    return functools.reduce(jnp.add, unstack(materialise(total), axis=1))


def _rates_cotangent(tau: jax.Array, weights: jax.Array, a: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Σ_{j,m} cotangent·weights·tau·exp(a·tau), (D, N): first over blocks of lanes, then over the lanes of a block."""
    J, _, M = tau.shape
    lanes = 128
    pad = [(0, 0), (0, 0), (0, -M % lanes)]
    moment, tau, weights = (
        materialise(jnp.pad(array, pad).reshape(J, array.shape[1], -1, lanes))
        for array in (cotangent * tau, tau, weights)
    )
    terms = jnp.exp(a[None, :, :, None, None] * tau[:, :, None]) * moment[:, :, None] * weights[:, None]
    return materialise(terms.sum((0, 3))).sum(-1)


_decayed_sum.defvjp(_decayed_sum_fwd, _decayed_sum_bwd)


def _over_time(x: jax.Array, dt: jax.Array, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Loops over time in √L blocks; the gradient keeps one state a block and recomputes the rest."""
    B, L, D = x.shape
    block = math.ceil(math.sqrt(L))

    @jax.checkpoint
    def run_block(state, inputs):
        return jax.lax.scan(functools.partial(step, a), state, inputs)

    def blocks(array: jax.Array) -> jax.Array:
        array = jnp.pad(jnp.moveaxis(array, 1, 0), [(0, -L % block), (0, 0), (0, 0)])
        return array.reshape(-1, block, *array.shape[1:])

    _, y = jax.lax.scan(run_block, jnp.zeros((B, *a.shape), x.dtype), tuple(blocks(array) for array in (x, dt, b, c)))
    return jnp.moveaxis(y.reshape(-1, B, D)[:L], 0, 1)
