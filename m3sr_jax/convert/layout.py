"""Where each tensor of the authors' release lives in our parameter trees: the map that both directions read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3sr_jax.models import M3SR
from m3sr_jax.models.m3sr import LEVELS

Shape = tuple[int, ...]
Path = tuple[str, ...]
Module = tuple[str, Path, str]  # the release's name, our path, the kind


@dataclass(frozen=True)
class Axes:
    """How a tensor's axes differ: ours = squeeze(release, singletons).transpose(order).

    Attributes:
      order: for each of our axes, the release's axis, singleton axes of the release not counted.
      singletons: the release's axes of size 1 that we do not keep.
    """

    order: tuple[int, ...]
    singletons: tuple[int, ...] = ()

    def from_release(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.squeeze(array, self.singletons).transpose(self.order))

    def to_release(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.expand_dims(array.transpose(np.argsort(self.order)), self.singletons))

    def release_shape(self, shape: Shape) -> Shape:
        """Gives the release's shape of a tensor from ours."""
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
      key: its name there.
      path: its place in our tree; None where our model has none because the release never uses it.
      axes: how the layouts differ.
      shape: the release's shape, only for a tensor without a path.
    """

    key: str
    path: Path | None
    axes: Axes = VECTOR
    shape: Shape = ()


def m3sr_layout(model: M3SR) -> Iterator[Tensor]:
    """Lists the release's tensors of an M3SR in the release's order.

    Args:
      model: whose fields say which stages, blocks and branches exist.

    Source: the key list of the authors' release.
    """
    for module, path, kind in m3sr_modules(model):
        yield from KINDS[kind](module, path, model)


def m3sr_modules(model: M3SR) -> Iterator[Module]:
    """Lists M3SR's modules down to the blocks, in the release's order."""

    def group(module: str, path: Path, level: int) -> Iterator[Module]:
        yield module, path, "group"
        for i in range(model.num_blocks[level]):
            yield f"{module}.blocks.{i}", (*path, f"block_{i}"), "block"

    return unet_modules(model.num_stages, group)


def unet_modules(stages: int, group: Callable[[str, Path, int], Iterator[Module]]) -> Iterator[Module]:
    """Lists the modules of `stages` U-Nets in a row, in the release's order.

    Args:
      stages: how many.
      group: lists what runs at a level (0 full, 1 half, 2 quarter size) from its module, path and level.
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


def _block(key: str, path: Path, model: M3SR) -> Iterator[Tensor]:
    yield Tensor(f"{key}.weights", (*path, "fusion"))
    if "spectral" in model.branches:
        spectral = (*path, "spectral")
        yield from weight(f"{key}.conv_in", (*spectral, "expand"), POINTWISE, bias=True)
        yield from _mixer(f"{key}.spe_mamba.mamba", (*spectral, "mixer"))
        yield from norm(f"{key}.spe_mamba.proj.0", (*spectral, "norm"))
        yield from weight(f"{key}.conv_out", (*spectral, "reduce"), POINTWISE, bias=True)
    if "frequency" in model.branches:
        yield from _residual_ss2d(key + ".fre_mamba", (*path, "frequency", "residual"))
    if "spatial" in model.branches:
        yield from _residual_ss2d(key, (*path, "spatial"))
    width = model.features * 2 ** _level(path)
    yield Tensor(f"{key}.mlp.fc1.weight", None, shape=(2 * width, width))
    yield Tensor(f"{key}.mlp.fc1.bias", None, shape=(2 * width,))
    yield Tensor(f"{key}.mlp.fc2.weight", None, shape=(width, 2 * width))
    yield Tensor(f"{key}.mlp.fc2.bias", None, shape=(width,))


def _level(path: Path) -> int:
    """Gives how often a block's image was halved."""
    group = path[1]
    return 2 if group == "bottleneck" else int(group.rpartition("_")[2])


def _mixer(key: str, path: Path) -> Iterator[Tensor]:
    yield Tensor(f"{key}.A_log", (*path, "a_log"), MATRIX)
    yield Tensor(f"{key}.D", (*path, "d"))
    yield Tensor(f"{key}.in_proj.weight", (*path, "in_proj"), LINEAR)
    yield Tensor(f"{key}.conv1d.weight", (*path, "conv_kernel"), DEPTHWISE_1D)
    yield Tensor(f"{key}.conv1d.bias", (*path, "conv_bias"))
    yield Tensor(f"{key}.x_proj.weight", (*path, "x_proj"), LINEAR)
    yield Tensor(f"{key}.dt_proj.weight", (*path, "dt_proj"), LINEAR)
    yield Tensor(f"{key}.dt_proj.bias", (*path, "dt_bias"))
    yield Tensor(f"{key}.out_proj.weight", (*path, "out_proj"), LINEAR)


def _residual_ss2d(key: str, path: Path) -> Iterator[Tensor]:
    scan = (*path, "ss2d")
    yield from norm(f"{key}.ln", (*path, "norm"))
    yield Tensor(f"{key}.att_spa.x_proj_weight", (*scan, "x_proj"), CUBE)
    yield Tensor(f"{key}.att_spa.Ds", (*scan, "d"), CUBE)
    yield Tensor(f"{key}.att_spa.A_logs", (*scan, "a_log"), MATRIX)
    yield Tensor(f"{key}.att_spa.dt_projs_bias", (*scan, "dt_bias"), MATRIX)
    yield from norm(f"{key}.att_spa.out_norm", (*scan, "out_norm"))
    yield from weight(f"{key}.att_spa.in_proj", (*scan, "in_proj"), LINEAR)
    yield Tensor(f"{key}.att_spa.conv2d.1.weight", (*scan, "conv_kernel"), DEPTHWISE)
    yield from weight(f"{key}.att_spa.out_proj", (*scan, "out_proj"), LINEAR)


# How to list the tensors of a module, by its kind.
KINDS: dict[str, Callable[[str, Path, Any], Iterator[Tensor]]] = {
    "conv": lambda key, path, model: weight(key, path, CONV),
    "pointwise": lambda key, path, model: weight(key, path, POINTWISE),
    "up_conv": lambda key, path, model: weight(key, path, UP_CONV, bias=True),
    "group": lambda key, path, model: iter(()),
    "block": _block,
}
