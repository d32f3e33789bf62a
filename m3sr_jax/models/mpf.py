"""The MPF block: spatial, spectral and frequency branches on one input, fused by learned weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float
from m3sr_kernels import Implementation

from m3sr_jax.config.names import BRANCHES
from m3sr_jax.models.frequency import FrequencyBranch
from m3sr_jax.models.layers import Layer
from m3sr_jax.models.spectral import SpectralBranch
from m3sr_jax.models.ss2d import ResidualSS2D

# The release's fusion weights have the frequency branch last, whatever the order in which a caller names the branches.
FUSION_ORDER = tuple(sorted(BRANCHES, key=lambda name: name == "frequency"))


class MPFBlock(Layer):
    """Computes x + Σ softmax(w)_i·branch_i(x) over the `branches` that are switched on."""

    num_groups: int = 4
    branches: Sequence[str] = BRANCHES
    wavelet: str = "haar"
    implementation: Implementation | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        names = [name for name in FUSION_ORDER if name in self.branches]
        start = nn.initializers.constant(1 / 3)
        logits = self.param("fusion", start, (len(names),), self.param_dtype)
        weights = nn.softmax(logits).astype(self.dtype)
        return sum((weights[i] * self._branch(name)(x) for i, name in enumerate(names)), x)

    def _branch(self, name: str) -> nn.Module:
        branches = {
            "spatial": partial(ResidualSS2D, epsilon=1e-5),
            "spectral": partial(SpectralBranch, num_groups=self.num_groups),
            "frequency": partial(FrequencyBranch, wavelet=self.wavelet),
        }
        return branches[name](implementation=self.implementation, **self.types, name=name)


class BlockGroup(nn.Module):
    """Computes x ← block(x) + x for each block in turn: as in the release, a residual outside the block's own."""

    num_blocks: int
    make_block: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        for i in range(self.num_blocks):
            x = self.make_block(name=f"block_{i}")(x) + x
        return x
