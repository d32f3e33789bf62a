"""HSRNet: eight stages that add gated features and a gated refinement to a convolution of the cube so far."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.image import check_image, pad_edges
from m3sr_jax.models.layers import conv, normal_fan, statistics_dtype

GROUPS = {"blue": 6, "green": 10, "red": 15}  # bands of the first cube that each group of convolutions computes
BANDS = sum(GROUPS.values())
WIDTH = 128
WEAK, STRONG = 0.01, 0.2  # slopes of the leaky ReLUs


class Unit(nn.Module):
    """Leaky ReLU of a convolution with bias; the image is padded with its edge pixels."""

    features: int
    size: int
    slope: float
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        init = normal_fan(self.size**2 * x.shape[-1])
        convolve = partial(conv, use_bias=True, padding=0, dtype=self.dtype, param_dtype=self.param_dtype)
        padded = pad_edges(x, self.size // 2)
        y = convolve(self.features, x.shape[-1], self.size, kernel_init=init, name="conv")(padded)
        return nn.leaky_relu(y, self.slope)


class Gate(nn.Module):
    """Computes σ(F(mean over pixels) + F(max over pixels)), a number in (0, 1) for each sample and channel."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 1 1 C"]:
        width = x.shape[-1]
        pointwise = partial(conv, width, width, 1, dtype=self.dtype, param_dtype=self.param_dtype)
        hidden, out = (pointwise(kernel_init=normal_fan(width), name=name) for name in ("hidden", "out"))
        pooled = x.mean((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
        return nn.sigmoid(sum(out(nn.leaky_relu(hidden(value), WEAK)) for value in pooled))


class Refinement(nn.Module):
    """Adds a wide residual to the cube, then mixes its channels."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        unit = partial(Unit, dtype=self.dtype, param_dtype=self.param_dtype)
        reduce = partial(conv, use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype)
        wide = unit(WIDTH, 3, STRONG, name="expand")(x)
        residual = reduce(width, WIDTH, kernel_init=normal_fan(9 * WIDTH), name="reduce")(wide)
        return unit(width, 1, STRONG, name="fuse")(nn.leaky_relu(x + residual, WEAK))


class Stage(nn.Module):
    """Adds a convolution of the cube, the first cube times one gate, and a refinement times another."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], first: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        types = self.dtype, self.param_dtype
        y = Unit(x.shape[-1], 3, WEAK, *types, name="conv")(x) + first * Gate(*types, name="first_gate")(x)
        return y + Refinement(*types, name="refinement")(x) * Gate(*types, name="gate")(x)


class HSRNet(nn.Module):
    """HSRNet (0.683 M parameters): RGB in [0, 1] to 31 bands, no clamp. It uses no camera response.

    Its gates take means and maxima over the whole image, so tiles change a prediction; other images of a batch do not.

    Attributes:
      num_bands: 31, the only number of bands that the network has.
      stages: stages in a row.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      remat: recompute each stage's activations in the backward pass instead of keeping them.

    Source: He et al., "Spectral Response Function-Guided Deep Optimization-Driven Network for Spectral
    Super-Resolution" (TNNLS 2021), as the DL4sSR toolbox computes it.
    """

    num_bands: int = BANDS
    stages: int = 8
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False

    def __post_init__(self):
        if self.num_bands != BANDS:
            groups = ", ".join(map(str, GROUPS.values()))
            raise ValueError(f"num_bands={self.num_bands}: HSRNet has {BANDS} bands, in groups of {groups}")
        super().__post_init__()

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, 31), any H and W.

        Raises:
          ValueError: there are not three channels, or the values are integers.
        """
        red, green, blue = jnp.split(check_image("HSRNet", rgb, 1, self.dtype), 3, axis=-1)
        inputs = jnp.concatenate([red, jnp.abs(green - red), green, jnp.abs(blue - green), blue], axis=-1)
        unit = partial(Unit, slope=WEAK, dtype=self.dtype, param_dtype=self.param_dtype)
        groups = [unit(n, 1, name=name)(unit(n, 3, name=f"{name}_in")(inputs)) for name, n in GROUPS.items()]
        first = y = jnp.concatenate(groups, axis=-1)
        stage = nn.remat(Stage) if self.remat else Stage
        for i in range(self.stages):
            y = stage(self.dtype, self.param_dtype, name=f"stage_{i}")(y, first)
        return y.astype(statistics_dtype(self.dtype))
