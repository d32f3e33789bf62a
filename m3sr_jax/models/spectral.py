"""The spectral branch: a Mamba-1 block mixes the spectral groups of each pixel, read as a short sequence."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float
from m3sr_kernels import Implementation, mamba_token_mix

from m3sr_jax.models.layers import GroupNormSiLU, Layer, conv, linear_init, uniform_fan_in

STATE_SIZE = 16
CONV_WIDTH = 4


def log_state_index(key, shape, dtype=jnp.float32):
    """Initialises a_log: A = −n for state n = 1…N on every channel."""
    del key
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype))[None], shape)


class TokenMixer(nn.Module):
    """Holds the parameters of `m3sr_kernels.mamba_token_mix`."""

    param_dtype: Dtype = jnp.float32
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, tokens: Float[Array, "M G C"]) -> Float[Array, "M G C"]:
        width = tokens.shape[-1]
        inner, rank = 2 * width, -(-width // 16)
        conv_init, zeros, ones = uniform_fan_in(CONV_WIDTH), nn.initializers.zeros, nn.initializers.ones
        table = {
            "in_proj": (linear_init, (width, 2 * inner)),
            "conv_kernel": (conv_init, (CONV_WIDTH, inner)),
            "conv_bias": (conv_init, (inner,)),
            "x_proj": (linear_init, (inner, rank + 2 * STATE_SIZE)),
            "dt_proj": (linear_init, (rank, inner)),
            "dt_bias": (zeros, (inner,)),
            "a_log": (log_state_index, (inner, STATE_SIZE)),
            "d": (ones, (inner,)),
            "out_proj": (linear_init, (inner, width)),
        }
        params = {name: self.param(name, init, shape, self.param_dtype) for name, (init, shape) in table.items()}
        # The precision of the network's other products.
        return mamba_token_mix(tokens, params, implementation=self.implementation, precision=None)


class SpectralBranch(Layer):
    """Widens C to G·C channels, mixes each pixel's G tokens of C channels, and narrows back to C."""

    num_groups: int
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width, groups = x.shape[-1], self.num_groups
        pointwise = partial(conv, size=1, use_bias=True, **self.types)
        x = pointwise(groups * width, width, name="expand")(x)
        mixer = TokenMixer(self.param_dtype, self.implementation, name="mixer")
        mixed = mixer(x.reshape(-1, groups, width)).reshape(x.shape)
        normed = GroupNormSiLU(groups, 1e-5, self.implementation, **self.types, name="norm")(mixed, x)
        return pointwise(width, groups * width, name="reduce")(normed)
