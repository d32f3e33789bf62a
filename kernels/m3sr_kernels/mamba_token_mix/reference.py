"""The definition: matrix products around an S6 scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS


def reference_mamba_token_mix(
    tokens: jax.Array, params: Mapping[str, jax.Array], *, scan: Callable = IMPLEMENTATIONS["reference"]
) -> jax.Array:
    """Arguments and result as `mamba_token_mix`; `scan` takes the arguments of `s6_scan` by position."""
    narrow = {name: value.astype(tokens.dtype) for name, value in params.items()}
    u, z = jnp.split(tokens @ narrow["in_proj"], 2, axis=-1)
    kernel, length = narrow["conv_kernel"], tokens.shape[1]
    padded = jnp.pad(u, ((0, 0), (kernel.shape[0] - 1, 0), (0, 0)))
    shifted = (padded[:, j : j + length] * kernel[j][None, None] for j in range(kernel.shape[0]))
    u = jax.nn.silu(sum(shifted, narrow["conv_bias"][None, None]))
    rank, states = params["dt_proj"].shape[0], params["a_log"].shape[1]
    dt, b, c = jnp.split(u @ narrow["x_proj"], (rank, rank + states), axis=-1)
    a = -jnp.exp(params["a_log"])
    y = scan(u, dt @ narrow["dt_proj"], a, b, c, params["d"], z, params["dt_bias"])
    return y @ narrow["out_proj"]
