"""HSRNet: eight stages that add gated features and a gated refinement to a convolution of the cube so far."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.baselines.image import check_image, pad_edges
from m3sr_jax.models.layers import conv, normal_fan, statistics_dtype

GROUPS = {"blue": 6, "green": 10, "red": 15}  # bands of the first estimate that each group of convolutions gives
BANDS = sum(GROUPS.values())
WIDTH = 128
WEAK, STRONG = 0.01, 0.2  # slopes of the leaky ReLUs


class Unit(nn.Module):
    """Leaky ReLU of a convolution with bias, the image padded by its edge pixels."""

    features: int
    size: int
    slope: float
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W O"]:
        inputs = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = normal_fan(self.size**2 * inputs)
        layer = conv(self.features, inputs, self.size, use_bias=True, padding=0, kernel_init=init, name="conv", **types)
        return nn.leaky_relu(layer(pad_edges(x, self.size // 2)), self.slope)


class Gate(nn.Module):
    """One number in (0, 1) for each sample and channel: σ(F(mean over pixels) + F(max over pixels))."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 1 1 C"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        hidden, out = (
            conv(width, width, size=1, kernel_init=normal_fan(width), name=name, **types) for name in ("hidden", "out")
        )
        pooled = x.mean((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
        return nn.sigmoid(sum(out(nn.leaky_relu(hidden(value), WEAK)) for value in pooled))


class Refinement(nn.Module):
    """Adds a wide residual to the cube, then mixes its channels."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        wide = Unit(WIDTH, 3, STRONG, name="expand", **types)(x)
        init = normal_fan(9 * WIDTH)
        residual = conv(width, WIDTH, use_bias=True, kernel_init=init, name="reduce", **types)(wide)
        return Unit(width, 1, STRONG, name="fuse", **types)(nn.leaky_relu(x + residual, WEAK))


class Stage(nn.Module):
    """A convolution of the cube, plus the first cube under one gate, plus a refinement under another."""

    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], first: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = Unit(x.shape[-1], 3, WEAK, name="conv", **types)(x)
        y = y + first * Gate(name="first_gate", **types)(x)
        return y + Refinement(name="refinement", **types)(x) * Gate(name="gate", **types)(x)


class HSRNet(nn.Module):
    """HSRNet (0.683 M parameters): RGB in [0, 1] to 31 bands, no clamp. No camera response enters.

    The gates take means and maxima over the whole image, so a tile is predicted otherwise than the same pixels of the
    whole; the other images of a batch do not matter.

    Attributes:
      num_bands: 31; the network is fixed to it.
      stages: in a row.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      remat: recompute each stage's activations in the backward pass instead of keeping them.

    Source: He et al., "Spectral Response Function-Guided Deep Optimization-Driven Network for Spectral
    Super-Resolution" (TNNLS 2021), in the form of the DL4sSR toolbox, whose numbers this gives.
    """

    num_bands: int = BANDS
    stages: int = 8
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False

    def __post_init__(self):
        if self.num_bands != BANDS:
            groups = ", ".join(map(str, GROUPS.values()))
            raise ValueError(f"num_bands={self.num_bands}: HSRNet gives {BANDS} bands, in groups of {groups}")
        super().__post_init__()

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel: (B, H, W, 3) → (B, H, W, 31), any H and W.

        Raises:
          ValueError: not three channels, or integers.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        red, green, blue = jnp.split(check_image("HSRNet", rgb, 1, self.dtype), 3, axis=-1)
        seen = jnp.concatenate([red, jnp.abs(green - red), green, jnp.abs(blue - green), blue], axis=-1)
        groups = []
        for name, bands in GROUPS.items():  # each sees all five channels
            group = Unit(bands, 3, WEAK, name=f"{name}_in", **types)(seen)
            groups.append(Unit(bands, 1, WEAK, name=name, **types)(group))
        first = y = jnp.concatenate(groups, axis=-1)
        stage = nn.remat(Stage) if self.remat else Stage
        for i in range(self.stages):
            y = stage(name=f"stage_{i}", **types)(y, first)
        return y.astype(statistics_dtype(self.dtype))
