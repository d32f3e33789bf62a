"""What a model costs: parameters and floating-point operations, counted three ways that do not agree, each labelled.

* exact: two operations for every multiply-add of a convolution or matrix product at its true size, and every multiply,
  add and exponential of the scans' recurrences. Norms, activations, wavelets and sums of images are left out.
* thop: what the `thop` counter sees of a network's PyTorch release, which is where published costs come from. It
  counts the modules that are called, so parameters that a block owns itself, GroupNorm, the inner Mamba block and both
  scans are missing; a transposed convolution is counted four times over, and LayerNorm with four multiply-adds a value.
* XLA: the compiler's own count of the program as traced, elementwise work included, every loop body counted once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from m3sr_jax.cost.baselines import (
    essaformer_costs,
    fmnet_costs,
    gmsr_costs,
    hrnet_costs,
    hscnn_plus_costs,
    hsrnet_costs,
    mst_plus_plus_costs,
)
from m3sr_jax.cost.terms import Cost, conv, layer_norm, times, up_conv
from m3sr_jax.models import M3SR
from m3sr_jax.models.baselines import GMSR, ESSAformer, FMNet, HRNet, HSCNNPlus, HSRNet, MSTPlusPlus
from m3sr_jax.models.m3sr import LEVELS, MULTIPLE
from m3sr_jax.models.spectral import CONV_WIDTH
from m3sr_jax.models.spectral import STATE_SIZE as SPECTRAL_STATE
from m3sr_jax.models.ss2d import DIRECTIONS, num_heads
from m3sr_jax.models.ss2d import STATE_SIZE as SPATIAL_STATE
from m3sr_jax.models.wavelets import dwt2

if TYPE_CHECKING:
    from rich.table import Table

RGB = 3


@dataclasses.dataclass(frozen=True)
class CostReport:
    """What a model costs on one image of height × width pixels.

    Attributes:
        height: image height in pixels, before padding.
        width: image width in pixels, before padding.
        parameters: counted off the model itself.
        xla_flops: XLA's count, None where its backend gives none.
        parts: counts by part; empty for a network without an analytic count.
    """

    height: int
    width: int
    parameters: int
    xla_flops: float | None
    parts: dict[str, Cost]

    @property
    def total(self) -> Cost | None:
        """The parts' sum."""
        return sum(self.parts.values(), Cost()) if self.parts else None


def cost_report(model: nn.Module, height: int = 482, width: int = 512) -> CostReport:
    """Counts parameters and operations of a forward pass on one RGB image.

    Args:
        model: the network; nothing is initialised or run.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        ValueError: If the model refuses the size.

    Source: the module docstring defines each count; the thop convention is that of thop's `count_hooks`.
    """
    image = jax.ShapeDtypeStruct((1, height, width, RGB), jnp.float32)
    params = abstract_params(model)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    analysis = jax.jit(lambda params, rgb: model.apply({"params": params}, rgb)).lower(params, image).cost_analysis()
    counts = _COUNTS.get(type(model))
    parts = {} if counts is None else counts(model, height, width)
    return CostReport(height, width, count, (analysis or {}).get("flops"), parts)


@functools.cache
def abstract_params(model: nn.Module) -> Any:
    """The model's parameter tree as shapes and types, without computing any."""
    image = jax.ShapeDtypeStruct((1, MULTIPLE, MULTIPLE, RGB), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


def m3sr_costs(model: M3SR, height: int, width: int) -> dict[str, Cost]:
    """Counts M3SR's parts from its fields alone, exactly for any of them.

    Args:
        model: its fields are read.
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        Part name → counts, in the order of the network.

    Source: the layers' definitions; thop's conventions as in the module docstring.
    """
    padded = height + -height % MULTIPLE, width + -width % MULTIPLE
    pixels, bands, features = padded[0] * padded[1], model.num_bands, model.features
    parts = {"first, last conv": conv(9, RGB, bands, pixels) + conv(9, bands, bands, pixels)}
    unet = conv(9, bands, features, pixels) + conv(9, features, bands, pixels)
    for level in range(LEVELS):
        channels, here = features << level, pixels >> 2 * level
        unet += conv(16, channels, 2 * channels, here // 4) + up_conv(2 * channels, channels, here // 4)
        unet += conv(1, 2 * channels, channels, here)
    parts["U-Net convs"] = times(unet, model.num_stages)
    for level, blocks in enumerate(model.num_blocks):
        count = model.num_stages * blocks * (1 if level == LEVELS else 2)
        for name, cost in _block(model, features << level, padded[0] >> level, padded[1] >> level):
            parts[name] = parts.get(name, Cost()) + times(cost, count)
    return parts


_COUNTS: dict[type[nn.Module], Callable[[Any, int, int], dict[str, Cost]]] = {
    M3SR: m3sr_costs,
    MSTPlusPlus: mst_plus_plus_costs,
    HSCNNPlus: hscnn_plus_costs,
    HRNet: hrnet_costs,
    GMSR: gmsr_costs,
    HSRNet: hsrnet_costs,
    FMNet: fmnet_costs,
    ESSAformer: essaformer_costs,
}


def _block(model: M3SR, channels: int, height: int, width: int) -> Iterator[tuple[str, Cost]]:
    """The parts of one MPF block on an image of that size."""
    if "spatial" in model.branches:
        yield "spatial branch", _residual_ss2d(channels, height * width)
    if "frequency" in model.branches:
        image = jax.ShapeDtypeStruct((1, height, width, 1), jnp.float32)
        bands = jax.eval_shape(functools.partial(dwt2, wavelet=model.wavelet), image)
        yield "frequency branch", _residual_ss2d(4 * channels, bands.shape[1] * bands.shape[2])
    if "spectral" in model.branches:
        yield "spectral branch", _spectral(channels, model.num_groups, height * width)
    # The release's blocks carry an MLP, C → 2C → C with biases, that nothing calls.
    yield "fusion weights", Cost(parameters=len(model.branches), unused=4 * channels**2 + 3 * channels)


def _residual_ss2d(width: int, pixels: int) -> Cost:
    """LayerNorm and SS2D of E channels."""
    inner, heads = 2 * width, num_heads(width)
    matrices = conv(1, width, inner, pixels) + conv(9, 1, inner, pixels) + conv(1, inner, width, pixels)
    projection = DIRECTIONS * (heads + 2 * SPATIAL_STATE) * inner
    # A direction: a decay a head (multiply, exp); Δ·x; for each state h·decay + b·(Δx) and the sum c·h; the skip d·x.
    scan = DIRECTIONS * (2 * heads + inner * (1 + 5 * SPATIAL_STATE + 2)) + (DIRECTIONS - 1) * inner
    parameters = projection + DIRECTIONS * (2 * heads + inner)
    own = Cost(parameters, flops=(2 * projection + scan) * pixels, scan_flops=scan * pixels)
    return layer_norm(width, pixels) + matrices + own + layer_norm(inner, pixels)


def _spectral(channels: int, groups: int, pixels: int) -> Cost:
    """Expand, Mamba over G tokens, GroupNorm, reduce."""
    inner, rank, tokens = 2 * channels, -(-channels // 16), groups * pixels
    matrices = channels * 2 * inner + CONV_WIDTH * inner + inner * (rank + 2 * SPECTRAL_STATE) + rank * inner
    matrices += inner * channels
    # As in SS2D, but a decay for every channel and state.
    scan = inner * (1 + 7 * SPECTRAL_STATE + 2)
    parameters = matrices + 2 * inner + inner * (SPECTRAL_STATE + 1) + 2 * groups * channels
    mixer = Cost(parameters, flops=(2 * matrices + scan) * tokens, scan_flops=scan * tokens)
    expand = conv(1, channels, groups * channels, pixels, bias=True)
    return expand + mixer + conv(1, groups * channels, channels, pixels, bias=True)


def cost_table(report: CostReport) -> Table:
    """Lays a report out for the terminal, every count under its label."""
    from rich import box
    from rich.table import Table

    title = f"Cost of one RGB image of {report.height}×{report.width} pixels"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.add_column("part", no_wrap=True)
    for heading in ("parameters", "GFLOP\nexact", "of it\nscans", "parameters\nthop", "GFLOP\nthop"):
        table.add_column(heading, justify="right")
    total = report.total
    for name, cost in report.parts.items():
        table.add_row(name, *_cells(cost), end_section=name == list(report.parts)[-1])
    if total is not None:
        table.add_row("all", *_cells(total), style="bold")
        release = f"{total.parameters + total.unused:,} parameters, {total.unused:,} of them never used"
        table.caption = f"In the authors' release: {release}. thop counted published costs, and leaves parts out."
    else:
        table.add_row("all", f"{report.parameters:,}")
    if report.xla_flops is not None:
        xla = f"XLA counts {report.xla_flops / 1e9:.1f} GFLOP, elementwise work included, each loop body once."
        table.caption = f"{table.caption or ''}\n{xla}".strip()
    return table


def _cells(cost: Cost) -> list[str]:
    giga = [f"{count / 1e9:.2f}" for count in (cost.flops, cost.scan_flops, cost.thop_flops)]
    return [f"{cost.parameters:,}", *giga[:2], f"{cost.thop_parameters:,}", giga[2]]
