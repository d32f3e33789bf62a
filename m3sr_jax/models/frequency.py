"""The frequency branch: SS2D on the wavelet bands of the image."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float
from m3sr_kernels import Implementation

from m3sr_jax.models.layers import Layer
from m3sr_jax.models.ss2d import ResidualSS2D
from m3sr_jax.models.wavelets import dwt2, idwt2


class FrequencyBranch(Layer):
    """Computes idwt(z + SS2D(LayerNorm(z))) with z = dwt(x), the four bands stacked on the channel axis."""

    wavelet: str = "haar"
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        bands = dwt2(x, self.wavelet)
        bands = ResidualSS2D(1e-6, self.implementation, **self.types, name="residual")(bands)
        return idwt2(bands, (x.shape[1], x.shape[2]), self.wavelet)
