"""The frequency branch: SS2D on the wavelet bands of the image."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float
from m3sr_kernels import Implementation

from m3sr_jax.models.ss2d import ResidualSS2D
from m3sr_jax.models.wavelets import dwt2, idwt2


class FrequencyBranch(nn.Module):
    """Computes idwt(z + SS2D(LayerNorm(z))) with z = dwt(x), the four bands stacked on the channel axis."""

    wavelet: str = "haar"
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        bands = dwt2(x, self.wavelet)
        bands = ResidualSS2D(1e-6, self.dtype, self.param_dtype, self.implementation, name="residual")(bands)
        return idwt2(bands, (x.shape[1], x.shape[2]), self.wavelet)
