"""M3SR: U-Nets of MPF blocks that turn an RGB image into a hyperspectral cube."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float
from m3sr_kernels import Implementation

from m3sr_jax.config.names import BRANCHES
from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.layers import conv, statistics_dtype
from m3sr_jax.models.mpf import BlockGroup, MPFBlock
from m3sr_jax.models.unet import LEVELS, UNet
from m3sr_jax.models.wavelets import library_name

# H and W must divide by this: two halvings in the U-Net, then one in the wavelet transform.
MULTIPLE = 8


class M3SR(ImageNetwork):
    """Spectral reconstruction network of "M3SR": RGB in [0, 1] to `num_bands` bands, no clamp on the output.

    `model.apply({"params": params}, rgb, capture_intermediates=True)` also returns the output of every layer, under the
    paths of the parameter tree; `m3sr_jax.convert.release_activations` renames them as in the release.

    Attributes:
      num_groups: G, spectral groups (tokens per pixel) of the spectral branch.
      num_stages: U-Nets in a row.
      num_blocks: MPF blocks at full, half and quarter size (the decoder mirrors the first two).
      branches: which of the branches run; the fusion is a softmax over them.
      wavelet: wavelet of the frequency branch, see `m3sr_jax.models.wavelets.dwt2`.
      features: F, width of the U-Net at full size.
      remat: recompute each block's activations in the backward pass instead of keeping them.
      implementation: which scan kernels run, see `m3sr_kernels`; None takes the best available.

    Source: the paper's figure 2; the authors' release for what the paper leaves open.
    """

    TITLE, MIN_SIZE, MULTIPLE = "M3SR", MULTIPLE, MULTIPLE

    num_groups: int = 4
    num_stages: int = 1
    num_blocks: Sequence[int] = (1, 1, 1)
    branches: Sequence[str] = BRANCHES
    wavelet: str = "haar"
    features: int = 31
    remat: bool = False
    implementation: Implementation | None = None

    def __post_init__(self):
        # Lists, as a config may hold them, cannot be hashed.
        self.num_blocks, self.branches = tuple(self.num_blocks), tuple(self.branches)
        _check_fields(self)
        super().__post_init__()

    @nn.compact
    def reconstruct(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
        convolve = partial(conv, **self.types)
        make_block = partial(
            nn.remat(MPFBlock) if self.remat else MPFBlock,
            num_groups=self.num_groups,
            branches=self.branches,
            wavelet=self.wavelet,
            **self.types,
            implementation=self.implementation,
        )

        def make_group(level: int, name: str) -> nn.Module:
            return BlockGroup(self.num_blocks[level], make_block, name=name)

        start = y = convolve(self.num_bands, 3, name="conv_in")(image)
        for stage in range(self.num_stages):
            y = UNet(self.features, make_group, **self.types, name=f"unet_{stage}")(y)
        y = convolve(self.num_bands, self.num_bands, name="conv_out")(y)
        wide = statistics_dtype(self.dtype)
        return y.astype(wide) + start.astype(wide)


def _check_fields(model: M3SR) -> None:
    for name in ("num_groups", "num_stages", "num_bands", "features"):
        if getattr(model, name) < 1:
            raise ValueError(f"{name}: found {getattr(model, name)}, expected 1 or more")
    if len(model.num_blocks) != LEVELS + 1 or min(model.num_blocks) < 1:
        found = ", ".join(map(str, model.num_blocks))
        raise ValueError(f"num_blocks: found {found}; expected {LEVELS + 1} positive counts (full, half, quarter size)")
    if not model.branches or set(model.branches) - set(BRANCHES):
        found = ", ".join(model.branches) or "none"
        raise ValueError(f"branches: found {found}; expected one or more of {', '.join(BRANCHES)}")
    if model.wavelet != "haar":
        library_name(model.wavelet)
