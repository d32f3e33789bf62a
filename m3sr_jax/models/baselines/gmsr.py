"""GMSR: three small stages, each a four-directional Mamba scan beside attention to spatial and spectral gradients.

The two attentions scale gradients by their extremes over the whole batch. A prediction therefore depends on the other
images of the batch and on tiling: for comparable numbers, predict one whole image at a time.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float
from m3sr_kernels import Implementation, s6_scan
from m3sr_kernels.depthwise_conv_silu.xla import depthwise_conv3x3
from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import Layer, LayerNorm, conv, uniform_fan_in
from m3sr_jax.models.spectral import log_state_index
from m3sr_jax.models.ss2d import DIRECTIONS

WIDTHS = 10, 20  # channels of the first two stages; the last stage has one for each band
STATE_SIZE = 16
STEP_RANGE = 1e-3, 1e-1  # of Δ at the start
DROP_PATH = 0.1


class MambaSS2D(Layer):
    """Mamba-1 over the four scan orders of an image, summed and gated; every channel has its own Δ and decays."""

    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        width = x.shape[-1]
        inner = 2 * width
        pointwise = partial(conv, size=1, **self.types)
        u, gate = jnp.split(pointwise(2 * inner, width, name="in_proj")(x), 2, axis=-1)
        kernel = self.param("conv_kernel", uniform_fan_in(9), (3, 3, inner), self.param_dtype)
        bias = self.param("conv_bias", uniform_fan_in(9), (inner,), self.param_dtype)
        u = depthwise_conv3x3(u, kernel.astype(self.dtype)) + bias.astype(self.dtype)[None, None, None]
        y = self._scan(nn.silu(u), rank=-(-width // 16))
        y = LayerNorm(1e-5, **self.types, name="out_norm")(y) * nn.silu(gate)
        return pointwise(width, inner, name="out_proj")(y)

    def _scan(self, u: Float[Array, "B H W I"], rank: int) -> Float[Array, "B H W I"]:
        inner, kinds = u.shape[-1], self.param_dtype
        x_shape = (DIRECTIONS, rank + 2 * STATE_SIZE, inner)
        x_proj = self.param("x_proj", uniform_fan_in(inner), x_shape, kinds).astype(self.dtype)
        dt_proj = self.param("dt_proj", uniform_fan_in(rank), (DIRECTIONS, inner, rank), kinds).astype(self.dtype)
        dt_bias = self.param("dt_bias", _inverse_softplus_of_step, (DIRECTIONS, inner), kinds)
        a_log = self.param("a_log", log_state_index, (DIRECTIONS * inner, STATE_SIZE), kinds)
        a = -jnp.exp(a_log).reshape(DIRECTIONS, inner, STATE_SIZE)
        skip = self.param("d", nn.initializers.ones, (DIRECTIONS * inner,), kinds).reshape(DIRECTIONS, inner)
        total = jnp.zeros_like(u)
        for k in range(DIRECTIONS):
            sequence = to_sequence(u, k)
            dt, b, c = jnp.split(sequence @ x_proj[k].T, (rank, rank + STATE_SIZE), axis=-1)
            y = s6_scan(
                sequence, dt @ dt_proj[k].T, a[k], b, c, skip[k], None, dt_bias[k], implementation=self.implementation
            )
            total = total + to_image(y, k, *u.shape[1:3])
        return total


def _inverse_softplus_of_step(key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
    """Draws Δ log-uniform in `STEP_RANGE` and inverts the softplus: s + ln(1 − e^{−s})."""
    low, high = np.log(STEP_RANGE)
    step = jnp.maximum(jnp.exp(jax.random.uniform(key, shape, dtype, low, high)), 1e-4)
    return step + jnp.log(-jnp.expm1(-step))


class SpatialAttention(Layer):
    """Weighs pixels by their differences from the right and lower neighbours; all stages share one."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        right, down = jnp.diff(x, axis=2), jnp.diff(x, axis=1)
        right = jnp.concatenate([right, right[:, :, -2:-1]], axis=2)
        down = jnp.concatenate([down, down[:, -2:-1]], axis=1)
        scaled = _to_unit_range(jnp.concatenate([right, down], axis=-1))
        summary = jnp.concatenate([scaled.mean(-1, keepdims=True), scaled.max(-1, keepdims=True)], axis=-1)
        convolve = partial(conv, **self.types)
        return x * nn.sigmoid(convolve(1, 2, size=7, name="conv")(summary))


class SpectralAttention(Layer):
    """Weighs channels by the differences between neighbouring channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        width = x.shape[-1]
        pointwise = partial(conv, size=1, **self.types)
        scaled = _to_unit_range(jnp.diff(x, axis=-1), epsilon=1e-8)
        scaled = jnp.concatenate([scaled, scaled[..., -1:]], axis=-1)
        hidden, out = (pointwise(width, width, name=name) for name in ("hidden", "out"))
        pooled = scaled.mean((1, 2), keepdims=True), scaled.max((1, 2), keepdims=True)
        return x * nn.sigmoid(sum(nn.sigmoid(out(nn.relu(hidden(value)))) for value in pooled))


def _to_unit_range(gradients: Float[Array, "B H W C"], epsilon: float = 0.0) -> Float[Array, "B H W C"]:
    """Computes (g − min)/(max − min + ε) over the whole batch; 0 if all are equal (0/0 in the release)."""
    low = gradients.min()
    span = gradients.max() - low + epsilon
    return (gradients - low) / jnp.where(span > 0, span, 1)


class GMSR(ImageNetwork):
    """GMSR (0.045 M parameters; 0.019 M as published, without the scans'): RGB in [0, 1] to `num_bands`, no clamp.

    With a "dropout" key, as in training, each stage drops its Mamba branch with probability 0.1 for each sample.

    Attributes:
      implementation: which scan kernels run, see `m3sr_kernels`; None takes the best available.

    Source: Wang et al., "GMSR: Gradient-Guided Mamba for Spectral Reconstruction from RGB Images" (2024).
    """

    TITLE = "GMSR"
    MIN_SIZE = 3  # the spatial gradient repeats its last but one row and column

    implementation: Implementation | None = None

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        x, types = image, self.types
        pointwise = partial(conv, size=1, **types)
        spatial = SpatialAttention(**types, name="spatial_attention")
        for stage, width in enumerate((*WIDTHS, self.num_bands), start=1):
            x = pointwise(width, x.shape[-1], name=f"widen_{stage}")(x)
            mixer = MambaSS2D(self.implementation, **types, name=f"ss2d_{stage}")
            scanned = self._drop_path(mixer(LayerNorm(1e-5, **types, name=f"norm_{stage}")(x)))
            spectral = SpectralAttention(**types, name=f"spectral_attention_{stage}")
            parts = jnp.concatenate([scanned, spatial(x), spectral(x)], axis=-1)
            fused = pointwise(width, 3 * width, use_bias=True, name=f"fuse_{stage}")(parts)
            x = x + nn.gelu(fused, approximate=False)
        return x

    def _drop_path(self, x: Float[Array, "B H W E"]) -> Float[Array, "B H W E"]:
        if not self.has_rng("dropout"):
            return x
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - DROP_PATH, (x.shape[0], 1, 1, 1))
        return jnp.where(kept, x / (1 - DROP_PATH), 0)
