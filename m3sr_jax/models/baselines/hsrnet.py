"""HSRNet: eight stages that add gated features and a gated refinement to a convolution of the cube so far."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from m3sr_jax.models.image import EdgeConv, ImageNetwork
from m3sr_jax.models.layers import Layer, conv, normal_fan

GROUPS = {"blue": 6, "green": 10, "red": 15}  # bands of the first cube that each group of convolutions computes
BANDS = sum(GROUPS.values())
WIDTH = 128
WEAK, STRONG = (partial(nn.leaky_relu, negative_slope=slope) for slope in (0.01, 0.2))
Unit = partial(EdgeConv, activation=WEAK, kernel_init=normal_fan)


class Gate(Layer):
    """Computes σ(F(mean over pixels) + F(max over pixels)), a number in (0, 1) for each sample and channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 1 1 C"]:
        width = x.shape[-1]
        pointwise = partial(conv, width, width, 1, **self.types)
        hidden, out = (pointwise(kernel_init=normal_fan(width), name=name) for name in ("hidden", "out"))
        pooled = x.mean((1, 2), keepdims=True), x.max((1, 2), keepdims=True)
        return nn.sigmoid(sum(out(WEAK(hidden(value))) for value in pooled))


class Refinement(Layer):
    """Adds a wide residual to the cube, then mixes its channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1]
        unit = partial(Unit, **self.types)
        reduce = partial(conv, use_bias=True, **self.types)
        wide = unit(WIDTH, 3, activation=STRONG, name="expand")(x)
        residual = reduce(width, WIDTH, kernel_init=normal_fan(9 * WIDTH), name="reduce")(wide)
        return unit(width, 1, activation=STRONG, name="fuse")(WEAK(x + residual))


class Stage(Layer):
    """Adds a convolution of the cube, the first cube times one gate, and a refinement times another."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], first: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        types = self.types
        y = Unit(x.shape[-1], 3, **types, name="conv")(x) + first * Gate(**types, name="first_gate")(x)
        return y + Refinement(**types, name="refinement")(x) * Gate(**types, name="gate")(x)


class HSRNet(ImageNetwork):
    """HSRNet (0.683 M parameters): RGB in [0, 1] to 31 bands, no clamp. It uses no camera response.

    Its gates take means and maxima over the whole image, so tiles change a prediction; other images of a batch do not.

    Attributes:
      num_bands: 31, the only number of bands that the network has.
      stages: stages in a row.
      remat: recompute each stage's activations in the backward pass instead of keeping them.

    Source: He et al., "Spectral Response Function-Guided Deep Optimization-Driven Network for Spectral
    Super-Resolution" (TNNLS 2021), as the DL4sSR toolbox computes it.
    """

    TITLE = "HSRNet"

    num_bands: int = BANDS
    stages: int = 8
    remat: bool = False

    def __post_init__(self):
        if self.num_bands != BANDS:
            groups = ", ".join(map(str, GROUPS.values()))
            raise ValueError(f"num_bands={self.num_bands}: HSRNet has {BANDS} bands, in groups of {groups}")
        super().__post_init__()

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        red, green, blue = jnp.split(image, 3, axis=-1)
        inputs = jnp.concatenate([red, jnp.abs(green - red), green, jnp.abs(blue - green), blue], axis=-1)
        unit = partial(Unit, **self.types)
        groups = [unit(n, 1, name=name)(unit(n, 3, name=f"{name}_in")(inputs)) for name, n in GROUPS.items()]
        first = y = jnp.concatenate(groups, axis=-1)
        stage = nn.remat(Stage) if self.remat else Stage
        for i in range(self.stages):
            y = stage(**self.types, name=f"stage_{i}")(y, first)
        return y
