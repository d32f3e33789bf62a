"""Where each tensor of the baselines' releases lives in our parameter trees.

Source: the key lists of their releases.
"""

from __future__ import annotations

from collections.abc import Iterator

from m3sr_jax.convert.layout import (
    CONV,
    CUBE,
    DEPTHWISE,
    LINEAR,
    MATRIX,
    POINTWISE,
    UNET_LAYERS,
    Axes,
    Module,
    Path,
    Tensor,
    norm,
    unet_modules,
    weight,
)
from m3sr_jax.models.baselines.essaformer import ESSAformer
from m3sr_jax.models.baselines.fmnet import SIZES, WEIGHT_LAYERS, FMNet
from m3sr_jax.models.baselines.gmsr import GMSR, WIDTHS
from m3sr_jax.models.baselines.hrnet import HRNet
from m3sr_jax.models.baselines.hscnn_plus import GROWTH, HSCNNPlus
from m3sr_jax.models.baselines.hsrnet import GROUPS, HSRNet
from m3sr_jax.models.baselines.mst_plus_plus import MSTPlusPlus

PER_HEAD = Axes((0,), (1, 2))  # (heads, 1, 1) → (heads,)


def mst_plus_plus_layout(model: MSTPlusPlus) -> Iterator[Tensor]:
    """Lists MST++'s tensors in the order of its release (`MST_Plus_Plus`)."""

    def group(module: str, path: Path, level: int) -> Iterator[Module]:
        yield f"{module}.blocks.0", path, "transformer"

    for module, path, kind in unet_modules(model.transformers, group):
        yield from _transformer(module, path) if kind == "transformer" else UNET_LAYERS[kind](module, path)


def _transformer(key: str, path: Path) -> Iterator[Tensor]:
    attention, feed_forward = (*path, "attention"), (*path, "feed_forward")
    yield Tensor(f"{key}.0.rescale", (*attention, "rescale"), PER_HEAD)
    for theirs, ours in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("proj", "project")):
        yield from weight(f"{key}.0.{theirs}", (*attention, ours), LINEAR, bias=theirs == "proj")
    for i, part in enumerate((0, 2)):
        yield Tensor(f"{key}.0.pos_emb.{part}.weight", (*attention, f"position_{i}"), DEPTHWISE)
    yield from weight(f"{key}.1.fn.net.0", (*feed_forward, "expand"), POINTWISE)
    yield Tensor(f"{key}.1.fn.net.2.weight", (*feed_forward, "conv_kernel"), DEPTHWISE)
    yield from weight(f"{key}.1.fn.net.4", (*feed_forward, "reduce"), POINTWISE)
    yield from norm(f"{key}.1.norm", (*feed_forward, "norm"))


def hscnn_plus_layout(model: HSCNNPlus) -> Iterator[Tensor]:
    """Lists HSCNN+'s tensors in the order of its release (`hscnn_plus`), including an unused convolution."""

    def unit(key: str, path: Path, axes: Axes) -> Iterator[Tensor]:
        return weight(f"{key}.1", (*path, "conv"), axes, bias=True)

    yield from unit("conv3_1", ("first",), CONV)
    yield from unit("conv3_2", ("second",), CONV)
    yield from unit("conv1_1", ("summary",), POINTWISE)
    yield Tensor("conv1_2.1.weight", None, shape=(GROWTH, GROWTH, 1, 1))
    yield Tensor("conv1_2.1.bias", None, shape=(GROWTH,))
    for i in range(model.dense_blocks):
        block, path = f"conv.Ex{i}", (f"block_{i}",)
        yield from unit(f"{block}.conv1", (*path, "reduce"), POINTWISE)
        yield from unit(f"{block}.conv3_1", (*path, "first"), CONV)
        yield from unit(f"{block}.conv3_2", (*path, "second"), CONV)
        yield from unit(f"{block}.conv1_1", (*path, "first_summary"), POINTWISE)
        yield from unit(f"{block}.conv1_2", (*path, "second_summary"), POINTWISE)
        yield from unit(f"{block}.conv1_final", (*path, "fuse"), POINTWISE)
    yield from unit("conv1_final", ("fuse",), POINTWISE)


def hrnet_layout(model: HRNet) -> Iterator[Tensor]:
    """Lists HRNet's tensors in the order of its release (`SGN`), including the unused gates."""

    def unit(module: str, path: Path, axes: Axes = CONV) -> Iterator[Tensor]:
        return weight(f"{module}.conv2d", (*path, "conv"), axes, bias=True)

    def blocks(name: str, count: int, width: int) -> Iterator[Tensor]:
        for i in range(1, count + 1):
            for k in range(1, 6):
                yield from unit(f"{name}{i}.conv{k}", (f"{name}{i}", f"conv{k}"))
        last = f"{name}{count + 1}"
        for k in (1, 2):
            yield from unit(f"{last}.conv{k}", (last, f"conv{k}"))
        for k, shape in ((0, (width // 4, width)), (2, (width // 4, width // 4)), (4, (width, width // 4))):
            yield Tensor(f"{last}.fc.{k}.weight", None, shape=shape)

    yield from unit("top1", ("top1",))
    yield from blocks("top2", 1, 8 * model.width)
    yield from unit("top3", ("top3",), POINTWISE)
    for name, scale, count in (("mid", 4, 1), ("bot", 2, 2), ("main", 1, 4)):
        yield from unit(f"{name}1", (f"{name}1",))
        yield from unit(f"{name}2", (f"{name}2",))
        yield from blocks(f"{name}3", count, scale * model.width)
        yield from unit(f"{name}4", (f"{name}4",))


def gmsr_layout(model: GMSR) -> Iterator[Tensor]:
    """Lists GMSR's tensors in the order of its release, including the unused skip scales."""
    stages = list(enumerate((*WIDTHS, model.num_bands), start=1))
    for i, _ in stages:
        yield from weight(f"output{i}", (f"widen_{i}",), POINTWISE)
    for i, width in stages:
        yield Tensor(f"VSS{i}.skip_scale", None, shape=(width,))
        yield Tensor(f"VSS{i}.skip_scale2", None, shape=(width,))
        yield from norm(f"VSS{i}.ln_1", (f"norm_{i}",))
        yield from _mamba_ss2d(f"VSS{i}.self_attention", (f"ss2d_{i}",))
    for i, _ in stages:
        for k, name in ((0, "hidden"), (2, "out")):
            yield from weight(f"spectral_attention{i}.fc.{k}", (f"spectral_attention_{i}", name), POINTWISE)
    yield from weight("spatial_attention.conv1", ("spatial_attention", "conv"), CONV)
    for i, _ in stages:
        yield from weight(f"conv{i}.0", (f"fuse_{i}",), POINTWISE, bias=True)


def _mamba_ss2d(key: str, path: Path) -> Iterator[Tensor]:
    yield Tensor(f"{key}.x_proj_weight", (*path, "x_proj"), CUBE)
    yield Tensor(f"{key}.dt_projs_weight", (*path, "dt_proj"), CUBE)
    yield Tensor(f"{key}.dt_projs_bias", (*path, "dt_bias"), MATRIX)
    yield Tensor(f"{key}.A_logs", (*path, "a_log"), MATRIX)
    yield Tensor(f"{key}.Ds", (*path, "d"))
    yield from weight(f"{key}.in_proj", (*path, "in_proj"), LINEAR)
    yield Tensor(f"{key}.conv2d.weight", (*path, "conv_kernel"), DEPTHWISE)
    yield Tensor(f"{key}.conv2d.bias", (*path, "conv_bias"))
    yield from norm(f"{key}.out_norm", (*path, "out_norm"))
    yield from weight(f"{key}.out_proj", (*path, "out_proj"), LINEAR)


def hsrnet_layout(model: HSRNet) -> Iterator[Tensor]:
    """Lists HSRNet's tensors in the order of the toolbox (`HSRnet`)."""

    def unit(key: str, path: Path, axes: Axes = CONV) -> Iterator[Tensor]:
        return weight(f"{key}.1", (*path, "conv"), axes, bias=True)

    def gate(key: str, path: Path) -> Iterator[Tensor]:
        for theirs, ours in (("fc1", "hidden"), ("fc2", "out")):
            yield from weight(f"{key}.{theirs}", (*path, ours), POINTWISE)

    for name in GROUPS:
        yield from unit(f"conv_{name[0].upper()}", (f"{name}_in",))
    for name in GROUPS:
        yield from unit(f"convinput{name[0]}", (name,), POINTWISE)
    for i in range(model.stages):
        key, stage = i + 1, (f"stage_{i}",)
        refinement = (*stage, "refinement")
        yield from unit(f"conv{key}", (*stage, "conv"))
        yield from gate(f"e{key}", (*stage, "first_gate"))
        yield from unit(f"HSI{key}.conv1", (*refinement, "expand"))
        yield from weight(f"HSI{key}.conv2", (*refinement, "reduce"), CONV, bias=True)
        yield from unit(f"HSI{key}.conv3", (*refinement, "fuse"), POINTWISE)
        yield from gate(f"en{key}", (*stage, "gate"))


def fmnet_layout(model: FMNet) -> Iterator[Tensor]:
    """Lists FMNet's tensors in the order of the toolbox."""

    def functions(key: str, path: Path) -> Iterator[Tensor]:
        for m, size in enumerate(SIZES):
            for name in ("input", "output"):
                yield from weight(f"{key}.base.{m}.{name}", (*path, f"{name}_{size}"), CONV, bias=True)

    def weights(key: str, path: Path) -> Iterator[Tensor]:
        yield from weight(f"{key}.input", (*path, "weights", "input"), CONV)
        for i in range(WEIGHT_LAYERS):
            yield from weight(f"{key}.conv2.{i}.conv", (*path, "weights", f"hidden_{i}"), CONV)
        yield from weight(f"{key}.output", (*path, "weights", "output"), CONV)

    yield from weight("input", ("input",), CONV)
    for i in range(model.blocks):
        yield from weight(f"convs.{i}.0.conv", (f"conv_{i}",), CONV)
    for i in range(model.blocks):
        yield from functions(f"dics.{i}", (f"mixture_{i}",))
    for i in range(model.blocks):
        yield from weights(f"reps.{i}", (f"mixture_{i}",))
    for key, name in (("c", "combine"), ("o", "output")):
        yield from functions(f"{key}dic", (name,))
        yield from weights(f"{key}rep", (name,))


def essaformer_layout(model: ESSAformer) -> Iterator[Tensor]:
    """Lists ESSAformer's tensors in the order of its release (`ESSA`) at factor 1."""
    yield from weight("conv_first", ("conv_in",), CONV, bias=True)
    yield from _essaformer_convs("blockup.convup.convu", ("up",))
    yield from norm("blockup.convup.norm", ("up", "norm"))
    yield from _essaformer_attention("blockup.convup.attn", ("up", "attention"))
    yield from _essaformer_convs("blockup.convdown.convd", ("down",))
    yield from _essaformer_attention("blockup.convdown.attn", ("down", "attention"))
    yield from norm("blockup.convdown.norm", ("down", "norm"))
    yield from weight("conv_last", ("conv_out",), CONV, bias=True)


def _essaformer_convs(key: str, path: Path) -> Iterator[Tensor]:
    for i, (part, axes) in enumerate(((0, POINTWISE), (3, CONV), (6, POINTWISE))):
        yield from weight(f"{key}.{part}", (*path, f"conv_{i}"), axes, bias=True)


def _essaformer_attention(key: str, path: Path) -> Iterator[Tensor]:
    yield from weight(f"{key}.lnqkv", (*path, "query_key_value"), LINEAR, bias=True)
    yield from weight(f"{key}.ln", (*path, "project"), LINEAR, bias=True)
