"""The block by XLA, with channels first and tokens × sequences on the lanes throughout, so that nothing moves."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.lanes import materialise, unstack
from m3sr_kernels.mamba_token_mix.reference import reference_mamba_token_mix
from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS as S6
from m3sr_kernels.s6_scan.xla import MAX_PAIRWISE, xla_s6_scan_lanes


@jax.jit
@functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names("mamba_uz", "s6_kernel"))
def xla_mamba_token_mix(tokens: jax.Array, params: Mapping[str, jax.Array]) -> jax.Array:
    """Arguments and result as `mamba_token_mix`.

    The gradient keeps the inputs, the first projection and the K of `s6_scan.xla`, and recomputes the rest.
    """
    if tokens.shape[1] > MAX_PAIRWISE:
        return reference_mamba_token_mix(tokens, params, scan=S6["xla"])
    narrow = {name: value.astype(tokens.dtype) for name, value in params.items()}
    wide_dtype = accumulation_dtype(tokens, *params.values())
    wide = {name: value.astype(wide_dtype) for name, value in params.items()}

    x = materialise(jnp.transpose(tokens, (2, 1, 0)))
    u, z = jnp.split(checkpoint_name(_project(narrow["in_proj"], x), "mamba_uz"), 2)
    u = _causal_conv_silu(u, narrow["conv_kernel"], narrow["conv_bias"])
    rank, states = params["dt_proj"].shape[0], params["a_log"].shape[1]
    dt, b, c = jnp.split(_project(narrow["x_proj"], u), (rank, rank + states))
    dt = _project(narrow["dt_proj"], dt)

    u, dt, b, c, z = (array.astype(wide_dtype) for array in (u, dt, b, c, z))
    dt = materialise(jax.nn.softplus(dt + wide["dt_bias"][:, None, None]))
    y = xla_s6_scan_lanes(u, dt, -jnp.exp(wide["a_log"]), b, c)
    y = (y + wide["d"][:, None, None] * u) * jax.nn.silu(z)
    return jnp.transpose(_project(narrow["out_proj"], y.astype(tokens.dtype)), (2, 1, 0))


def _project(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Multiplies (C, D) weights and (C, L, M) activations to (D, L, M)."""
    return materialise((weight.T @ x.reshape(x.shape[0], -1)).reshape(-1, *x.shape[1:]))


def _causal_conv_silu(u: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Convolves (D, L, M) along the tokens with the (J, D) kernel, with zeros before token 0."""
    tokens, taps = unstack(u, axis=1), unstack(kernel)
    mixed = []
    for t in range(len(tokens)):
        recent = zip(taps[::-1], tokens[t::-1], strict=False)  # the last tap weighs the current token
        mixed.append(sum((tap[:, None] * token for tap, token in recent), bias[:, None]))
    return materialise(jax.nn.silu(jnp.stack(mixed, axis=1)))
