"""Terms in which a network's map is written: where each tensor of its release lives in our parameter tree.

`m3sr_jax.convert.release` reads such a map in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from m3sr_jax.models.unet import LEVELS

Shape = tuple[int, ...]
Path = tuple[str, ...]
Module = tuple[str, Path, str]  # the release's name, our path, the kind


@dataclass(frozen=True)
class Axes:
    """How a tensor's axes differ: ours = squeeze(release, singletons).transpose(order).

    Attributes:
      order: the release's axis for each of ours, not counting its singletons.
      singletons: the release's axes of size 1, which our layout lacks.
    """

    order: tuple[int, ...]
    singletons: tuple[int, ...] = ()

    def from_release(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.squeeze(array, self.singletons).transpose(self.order))

    def to_release(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.expand_dims(array.transpose(np.argsort(self.order)), self.singletons))

    def release_shape(self, shape: Shape) -> Shape:
        """Returns the release's shape of a tensor, given ours."""
        kept = iter(shape[i] for i in np.argsort(self.order))
        rank = len(shape) + len(self.singletons)
        return tuple(1 if axis in self.singletons else next(kept) for axis in range(rank))


CONV = Axes((2, 3, 1, 0))  # (out, in, kh, kw) → (kh, kw, in, out)
DEPTHWISE = Axes((1, 2, 0), (1,))  # (channels, 1, kh, kw) → (kh, kw, channels)
DEPTHWISE_1D = Axes((1, 0), (1,))  # (channels, 1, k) → (k, channels)
POINTWISE = Axes((1, 0), (2, 3))  # (out, in, 1, 1) → (in, out)
UP_CONV = Axes((0, 2, 3, 1))  # (in, out, kh, kw) → (in, kh, kw, out)
LINEAR = Axes((1, 0))  # (out, in) → (in, out)
VECTOR = Axes((0,))
MATRIX = Axes((0, 1))
CUBE = Axes((0, 1, 2))


@dataclass(frozen=True)
class Tensor:
    """One tensor of a release state dict.

    Attributes:
      key: its name in the release.
      path: its place in our tree; None for a tensor that the release never uses and our model lacks.
      axes: how the layouts differ.
      shape: the release's shape, for a tensor without a path.
    """

    key: str
    path: Path | None
    axes: Axes = VECTOR
    shape: Shape = ()


def unet_modules(stages: int, group: Callable[[str, Path, int], Iterator[Module]]) -> Iterator[Module]:
    """Lists the modules of `stages` U-Nets in a row, in the release's order.

    Args:
      stages: number of U-Nets.
      group: lists the modules of a level (0 full, 1 half, 2 quarter size) from its module, path and level.
    """
    yield "conv_in", ("conv_in",), "conv"
    for stage in range(stages):
        body, unet = f"body.{stage}", (f"unet_{stage}",)
        yield f"{body}.embedding", (*unet, "embedding"), "conv"
        for level in range(LEVELS):
            yield from group(f"{body}.encoder_layers.{level}.0", (*unet, f"encoder_{level}"), level)
            yield f"{body}.encoder_layers.{level}.1", (*unet, f"down_{level}"), "conv"
        yield from group(f"{body}.bottleneck", (*unet, "bottleneck"), LEVELS)
        for index, level in enumerate(reversed(range(LEVELS))):
            yield f"{body}.decoder_layers.{index}.0", (*unet, f"up_{level}"), "up_conv"
            yield f"{body}.decoder_layers.{index}.1", (*unet, f"merge_{level}"), "pointwise"
            yield from group(f"{body}.decoder_layers.{index}.2", (*unet, f"decoder_{level}"), level)
        yield f"{body}.mapping", (*unet, "mapping"), "conv"
    yield "conv_out", ("conv_out",), "conv"


def weight(key: str, path: Path, axes: Axes, *, bias: bool = False) -> Iterator[Tensor]:
    yield Tensor(f"{key}.weight", (*path, "kernel"), axes)
    if bias:
        yield Tensor(f"{key}.bias", (*path, "bias"))


def norm(key: str, path: Path) -> Iterator[Tensor]:
    yield Tensor(f"{key}.weight", (*path, "scale"))
    yield Tensor(f"{key}.bias", (*path, "bias"))


# Kind of a U-Net's own layer → its tensors.
UNET_LAYERS: dict[str, Callable[[str, Path], Iterator[Tensor]]] = {
    "conv": lambda key, path: weight(key, path, CONV),
    "pointwise": lambda key, path: weight(key, path, POINTWISE),
    "up_conv": lambda key, path: weight(key, path, UP_CONV, bias=True),
}
