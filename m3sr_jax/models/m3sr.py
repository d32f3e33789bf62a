"""M3SR: U-Nets of MPF blocks that turn an RGB image into a hyperspectral cube."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Num

from m3sr_jax.models.layers import UpConv, conv, down_conv, statistics_dtype
from m3sr_jax.models.mpf import BRANCHES, BlockGroup, MPFBlock
from m3sr_jax.models.wavelets import library_name

# H and W must divide by this: two halvings in the U-Net, then one in the wavelet transform.
MULTIPLE = 8
LEVELS = 2


class UNet(nn.Module):
    """One U-Net: S bands in and out, width F at full size, 2F at half, 4F at quarter, plus its own input.

    Attributes:
      features: F.
      make_group: gives what runs at a level from its number (0 full, 1 half, 2 quarter size) and its `name`.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    features: int
    make_group: Callable[..., nn.Module]
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W S"]) -> Float[Array, "B H W S"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        bands, skips = x.shape[-1], []
        y = conv(self.features, bands, name="embedding", **types)(x)
        for level in range(LEVELS):
            width = self.features * 2**level
            y = self.make_group(level, name=f"encoder_{level}")(y)
            skips.append(y)
            y = down_conv(2 * width, width, name=f"down_{level}", **types)(y)
        y = self.make_group(LEVELS, name="bottleneck")(y)
        for level in reversed(range(LEVELS)):
            width = self.features * 2**level
            y = UpConv(width, name=f"up_{level}", **types)(y)
            y = conv(width, 2 * width, size=1, name=f"merge_{level}", **types)(
                jnp.concatenate([y, skips[level]], axis=-1)
            )
            y = self.make_group(level, name=f"decoder_{level}")(y)
        return conv(bands, self.features, name="mapping", **types)(y) + x


class M3SR(nn.Module):
    """Spectral reconstruction network of "M3SR": RGB in [0, 1] to `num_bands` bands, no clamp on the output.

    `model.apply({"params": params}, rgb, capture_intermediates=True)` also returns what every part gave, under the
    paths of the parameter tree; `m3sr_jax.convert.release_activations` puts them under the release's module names.

    Attributes:
      num_groups: G, the spectral groups (tokens a pixel) of the spectral branch.
      num_stages: U-Nets in a row.
      num_blocks: MPF blocks at full, half and quarter size (the decoder mirrors the first two).
      branches: those that run, of "spatial", "frequency" and "spectral"; the fusion is a softmax over them.
      wavelet: of the frequency branch, see `m3sr_jax.models.wavelets.dwt2`.
      num_bands: S, bands of the output.
      features: F, width of the U-Net at full size. An SS2D of width E has R heads a direction, the largest divisor of
        2E that is at most ⌈E/16⌉: ⌈E/16⌉ itself, as published, for E = 31·2^k.
      dtype: type of the computation; scans and norm statistics stay in float32, and so does the output.
      param_dtype: type of the parameters.
      remat: recompute each block's activations in the backward pass instead of keeping them.
      implementation: which scan kernels run, see `m3sr_kernels`; None takes the best that works.

    Source: the paper's figure 2; the authors' release for what the paper leaves open.
    """

    num_groups: int = 4
    num_stages: int = 1
    num_blocks: Sequence[int] = (1, 1, 1)
    branches: Sequence[str] = ("spatial", "frequency", "spectral")
    wavelet: str = "haar"
    num_bands: int = 31
    features: int = 31
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32
    remat: bool = False
    implementation: str | None = None

    def __post_init__(self):
        # A config may hand over lists, which Linen would not compare or hash.
        self.num_blocks, self.branches = tuple(self.num_blocks), tuple(self.branches)
        _check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, rgb: Num[Array | np.ndarray, "B H W C"]) -> Float[Array, "B H W S"]:
        """Reconstructs the spectrum of every pixel.

        Args:
          rgb: (B, H, W, 3), RGB in [0, 1]; H and W at least 8, of any parity.

        Returns:
          (B, H, W, num_bands), float32 or wider, in the unit of the cubes the model was trained on.

        Raises:
          ValueError: H or W below 8, not three channels, or integers.
        """
        _check_image(rgb)
        _, height, width, _ = rgb.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        make_block = partial(
            nn.remat(MPFBlock) if self.remat else MPFBlock,
            num_groups=self.num_groups,
            branches=self.branches,
            wavelet=self.wavelet,
            implementation=self.implementation,
            **types,
        )

        def make_group(level: int, name: str) -> nn.Module:
            return BlockGroup(self.num_blocks[level], make_block, name=name)

        padding = ((0, 0), (0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
        x = jnp.pad(jnp.asarray(rgb, self.dtype), padding, mode="reflect")
        start = y = conv(self.num_bands, 3, name="conv_in", **types)(x)
        for stage in range(self.num_stages):
            y = UNet(self.features, make_group, name=f"unet_{stage}", **types)(y)
        y = conv(self.num_bands, self.num_bands, name="conv_out", **types)(y)
        wide = statistics_dtype(self.dtype)
        return (y.astype(wide) + start.astype(wide))[:, :height, :width]


def _check_image(rgb: Array | np.ndarray) -> None:
    if rgb.ndim != 4 or rgb.shape[-1] != 3:
        raise ValueError(f"M3SR takes images of shape (B, H, W, 3), got {rgb.shape}")
    if any(side < MULTIPLE for side in rgb.shape[1:3]):  # min() would compare the sides, which may be symbolic
        size = f"{rgb.shape[1]}×{rgb.shape[2]}"
        raise ValueError(f"M3SR takes images of at least {MULTIPLE}×{MULTIPLE} pixels, got H×W = {size}")
    if not jnp.issubdtype(rgb.dtype, jnp.floating):
        raise ValueError(f"M3SR takes RGB in [0, 1] as floating-point numbers, got {rgb.dtype}: scale it first")


def _check_fields(model: M3SR) -> None:
    for name in ("num_groups", "num_stages", "num_bands", "features"):
        if getattr(model, name) < 1:
            raise ValueError(f"{name}={getattr(model, name)} is not positive")
    if len(model.num_blocks) != LEVELS + 1 or min(model.num_blocks) < 1:
        raise ValueError(
            f"num_blocks={model.num_blocks}: expected {LEVELS + 1} positive counts (full, half, quarter size)"
        )
    unknown = sorted(set(model.branches) - set(BRANCHES))
    if unknown or not model.branches:
        raise ValueError(f"branches={model.branches}: expected at least one of {BRANCHES}, and no other")
    if model.wavelet != "haar":
        library_name(model.wavelet)
