"""Where each tensor of M3SR's release lives in our parameter tree."""

from __future__ import annotations

from collections.abc import Iterator

from m3sr_jax.convert.layout import (
    CUBE,
    DEPTHWISE,
    DEPTHWISE_1D,
    LINEAR,
    MATRIX,
    POINTWISE,
    UNET_LAYERS,
    Module,
    Path,
    Tensor,
    norm,
    unet_modules,
    weight,
)
from m3sr_jax.models import M3SR
from m3sr_jax.models.unet import LEVELS


def m3sr_layout(model: M3SR) -> Iterator[Tensor]:
    """Lists M3SR's tensors in the order of the authors' release.

    Source: the key list of that release.
    """
    for module, path, kind in m3sr_modules(model):
        if kind in UNET_LAYERS:
            yield from UNET_LAYERS[kind](module, path)
        elif kind == "block":
            yield from _block(module, path, model)


def m3sr_modules(model: M3SR) -> Iterator[Module]:
    """Lists M3SR's modules down to the blocks, in the release's order."""

    def group(module: str, path: Path, level: int) -> Iterator[Module]:
        yield module, path, "group"
        for i in range(model.num_blocks[level]):
            yield f"{module}.blocks.{i}", (*path, f"block_{i}"), "block"

    return unet_modules(model.num_stages, group)


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
    group = path[1]  # "bottleneck", "encoder_LEVEL" or "decoder_LEVEL"
    width = model.features << (LEVELS if group == "bottleneck" else int(group[-1]))
    for name, shape in (("fc1", (2 * width, width)), ("fc2", (width, 2 * width))):
        yield Tensor(f"{key}.mlp.{name}.weight", None, shape=shape)
        yield Tensor(f"{key}.mlp.{name}.bias", None, shape=shape[:1])


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
