"""What a model costs in parameters and floating-point operations, counted in three ways that do not agree.

* exact: two operations for every multiply-add of a convolution or matrix product at its true size, and every multiply,
  add and exponential of the scans' recurrences. Norms, activations, wavelets and sums of images are left out.
* thop: what the `thop` counter reports for a network's PyTorch release; published costs come from it. It counts called
  modules only, so it misses parameters that a block owns itself, GroupNorm, the inner Mamba block and both scans. It
  counts a transposed convolution four times, and LayerNorm as four multiply-adds per value.
* XLA: the compiler's own count of the traced program, with elementwise work; it counts every loop body once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import linen as nn

from m3sr_jax.cost.baselines import base_costs
from m3sr_jax.cost.terms import RGB, Cost, total
from m3sr_jax.models import parameter_shapes
from m3sr_jax.models.base import WithBase
from m3sr_jax.networks import Network, load, network_of

if TYPE_CHECKING:
    from rich.table import Table


PUBLISHED_SIZE = 482, 512  # of the image for which papers print costs


@dataclasses.dataclass(frozen=True)
class CostReport:
    """What a model costs on one image of height × width pixels.

    Attributes:
        height: image height in pixels, before padding.
        width: image width in pixels, before padding.
        parameters: number of parameters in the model's tree.
        xla_flops: XLA's count; None if the backend has none.
        parts: counts by part; empty if the network has no cost function.
        remarks: sentences that belong beside the counts.
    """

    height: int
    width: int
    parameters: int
    xla_flops: float | None
    parts: dict[str, Cost]
    remarks: tuple[str, ...] = ()

    @property
    def total(self) -> Cost | None:
        """The sum of the parts; None if there are none."""
        return total(self.parts.values()) if self.parts else None


def cost_report(model: nn.Module, height: int = PUBLISHED_SIZE[0], width: int = PUBLISHED_SIZE[1]) -> CostReport:
    """Counts parameters and operations of a forward pass on one RGB image.

    Args:
        model: the network; nothing is initialised or run.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        ValueError: the image is too small for the model.

    Source: the module docstring defines each count; the thop convention is that of thop's `count_hooks`.
    """
    image = jax.ShapeDtypeStruct((1, height, width, RGB), jnp.float32)
    params = parameter_shapes(model)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    analysis = jax.jit(lambda params, rgb: model.apply({"params": params}, rgb)).lower(params, image).cost_analysis()
    network = network_of(model)
    parts = _parts(model, height, width)
    remarks = tuple(_remarks(network, model, height, width)) if network else ()
    return CostReport(height, width, count, (analysis or {}).get("flops"), parts, remarks)


def _remarks(network: Network, model: nn.Module, height: int, width: int) -> Iterator[str]:
    if network.note:
        yield f"{network.title} {network.note}."
    if network.published_gflop and (height, width) == PUBLISHED_SIZE and model == type(model)():
        yield f"The M3SR paper prints {network.published_gflop} GFLOP for {network.title}."


def _parts(model: nn.Module, height: int, width: int) -> dict[str, Cost]:
    if isinstance(model, WithBase):
        return _parts(model.network, height, width) | base_costs(model, height, width)
    network = network_of(model)
    return load(network.costs)(model, height, width) if network and network.costs else {}


def cost_table(report: CostReport) -> Table:
    """Returns a report as a table for the terminal."""
    from rich import box
    from rich.table import Table

    title = f"Cost of one RGB image of {report.height}×{report.width} pixels"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.add_column("part", no_wrap=True)
    for heading in ("parameters", "GFLOP\nexact", "of which\nscans", "parameters\nthop", "GFLOP\nthop"):
        table.add_column(heading, justify="right")
    whole, captions = report.total, list(report.remarks)
    for name, cost in report.parts.items():
        table.add_row(name, *_cells(cost), end_section=name == list(report.parts)[-1])
    if whole is not None:
        table.add_row("all", *_cells(whole), style="bold")
        if whole.unused:
            release = f"{whole.parameters + whole.unused:,} parameters, {whole.unused:,} of them unused"
            captions.append(f"The authors' release has {release}.")
        captions.append("Published costs come from thop, which misses some parts.")
    else:
        table.add_row("all", f"{report.parameters:,}")
    if report.xla_flops is not None:
        giga = report.xla_flops / 1e9
        captions.append(f"XLA counts {giga:.1f} GFLOP, including elementwise work, each loop body once.")
    table.caption = "\n".join(captions)
    return table


def _cells(cost: Cost) -> list[str]:
    giga = [f"{count / 1e9:.2f}" for count in (cost.flops, cost.scan_flops, cost.thop_flops)]
    return [f"{cost.parameters:,}", *giga[:2], f"{cost.thop_parameters:,}", giga[2]]
