"""The spectral branch: every pixel is a short sequence of spectral groups, mixed by a Mamba-1 block."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float
from m3sr_kernels import mamba_token_mix

from m3sr_jax.models.layers import Norm, linear_init, uniform_fan_in

STATE_SIZE = 16
CONV_WIDTH = 4


def log_state_index(key, shape, dtype=jnp.float32):
    """Initialises a_log: A = −n for state n = 1…N on every channel."""
    del key
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype))[None], shape)


class TokenMixer(nn.Module):
    """Owns the parameters of `m3sr_kernels.mamba_token_mix`."""

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
        return mamba_token_mix(tokens, params, implementation=self.implementation)


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
