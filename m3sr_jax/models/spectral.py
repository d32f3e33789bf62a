"""The spectral branch: every pixel is a short sequence of spectral groups, mixed by a Mamba-1 block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float
from m3sr_kernels import s6_scan

from m3sr_jax.models.layers import Norm, causal_conv, linear_init, uniform_fan_in

STATE_SIZE = 16
CONV_WIDTH = 4


def mix_tokens(
    tokens: Float[Array, "M G C"], params: Mapping[str, Float[Array, ...]], *, implementation: str | None = None
) -> Float[Array, "M G C"]:
    """Runs a Mamba-1 block over the G tokens of M independent pixels.

    [u, z] = tokens·W_in;  u ← SiLU(causal_conv(u));  [δ, B, C] = u·W_x;  Δ = softplus(δ·W_dt + dt_bias);
    A = −exp(a_log);  h_t = exp(Δ_t·A)·h_{t−1} + Δ_t·B_t·u_t;  y_t = C_t·h_t + d·u_t;  result = (y·SiLU(z))·W_out.
    No pixel sees another, so a caller may cut M into blocks as it likes.

    Args:
      tokens: (M, G, C), one row of G tokens a pixel.
      params: in_proj (C, 4C), conv_kernel (4, 2C), conv_bias (2C,), x_proj (2C, R+32), dt_proj (R, 2C), dt_bias (2C,),
        a_log (2C, 16), d (2C,), out_proj (2C, C).
      implementation: which scan runs, see `m3sr_kernels.s6_scan`.

    Returns:
      (M, G, C), in the type of `tokens`; the scan itself runs in float32 or wider.

    Source: Mamba (Gu and Dao, 2023), figure 3; paper section on the spectral branch.
    """
    # The scan takes its own parameters as they are and computes in float32 or wider.
    narrow = {name: value.astype(tokens.dtype) for name, value in params.items()}
    u, z = jnp.split(tokens @ narrow["in_proj"], 2, axis=-1)
    u = nn.silu(causal_conv(u, narrow["conv_kernel"], narrow["conv_bias"]))
    rank = params["dt_proj"].shape[0]
    dt, b, c = jnp.split(u @ narrow["x_proj"], (rank, rank + STATE_SIZE), axis=-1)
    dt = dt @ narrow["dt_proj"]
    a = -jnp.exp(params["a_log"])
    y = s6_scan(u, dt, a, b, c, params["d"], z, params["dt_bias"], implementation=implementation)
    return y @ narrow["out_proj"]


def log_state_index(key, shape, dtype=jnp.float32):
    """Initialises a_log: A = −n for state n = 1…N on every channel."""
    del key
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype))[None], shape)


class TokenMixer(nn.Module):
    """Owns the parameters of `mix_tokens`."""

    param_dtype: Dtype = jnp.float32
    implementation: str | None = None

    @nn.compact
    def __call__(self, tokens: Float[Array, "M G C"]) -> Float[Array, "M G C"]:
        width = tokens.shape[-1]
        inner, rank = 2 * width, -(-width // 16)
        conv, zeros, ones = uniform_fan_in(CONV_WIDTH), nn.initializers.zeros, nn.initializers.ones
        table = {
            "in_proj": (linear_init, (width, 2 * inner)),
            "conv_kernel": (conv, (CONV_WIDTH, inner)),
            "conv_bias": (conv, (inner,)),
            "x_proj": (linear_init, (inner, rank + 2 * STATE_SIZE)),
            "dt_proj": (linear_init, (rank, inner)),
            "dt_bias": (zeros, (inner,)),
            "a_log": (log_state_index, (inner, STATE_SIZE)),
            "d": (ones, (inner,)),
            "out_proj": (linear_init, (inner, width)),
        }
        params = {name: self.param(name, init, shape, self.param_dtype) for name, (init, shape) in table.items()}
        return mix_tokens(tokens, params, implementation=self.implementation)


class SpectralBranch(nn.Module):
    """Widens C to G·C channels, reads them as G tokens of C channels a pixel, mixes the tokens, and narrows back."""

    num_groups: int
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    implementation: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        x = self._pointwise(self.num_groups * width, width, "expand")(x)
        tokens = x.reshape(-1, self.num_groups, width)
        mixer = TokenMixer(param_dtype=self.param_dtype, implementation=self.implementation, name="mixer")
        mixed = mixer(tokens).reshape(x.shape)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        normed = Norm(epsilon=1e-5, num_groups=self.num_groups, name="norm", **types)(mixed)
        return self._pointwise(width, self.num_groups * width, "reduce")(nn.silu(normed) + x)

    def _pointwise(self, features: int, in_features: int, name: str) -> nn.Dense:
        # A 1×1 convolution in the release, so it starts as convolutions do.
        init = uniform_fan_in(in_features)
        return nn.Dense(
            features, kernel_init=init, bias_init=init, dtype=self.dtype, param_dtype=self.param_dtype, name=name
        )
