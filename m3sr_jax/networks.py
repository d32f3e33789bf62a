"""The table of networks: what the other packages need to know about each, by name.

To add a network, write its module in `m3sr_jax.models`, list its release's tensors in `m3sr_jax.convert`, count its
operations in `m3sr_jax.cost`, and add an entry here. Entries refer to code as "module:name", so that reading a name
imports nothing.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class Network:
    """Where the parts of a network are and how its release checkpoints are recognised.

    Attributes:
        title: its name in papers.
        model: the Linen class, or a reference to it. The class's fields are the network's fields.
        layout: model → the tensors of its release, as `m3sr_jax.convert.layout.Tensor`; None without a release.
        costs: (model, height, width) → part name → `m3sr_jax.cost.terms.Cost`; None if nothing counts them.
        signature: key of a tensor that only this network's release has.
        bands: key of the tensor in the release whose first axis is the bands.
        release_fields: state dict → further fields, where releases differ in more than their bands; it may refuse one.
        grid: pixels; the network itself pads H and W to multiples of it, and tiles start on multiples of it.
        whole_image: whether it needs the whole image: tiles change a prediction by several percent.
        published_gflop: its cost at 482×512 in GFLOP as the M3SR paper prints it, counted by thop; None if unknown.
        note: what a reader must know wherever its size, cost or score is printed.
    """

    title: str
    model: str | type
    layout: str | None = None
    costs: str | None = None
    signature: str = ""
    bands: str = ""
    release_fields: str | None = None
    grid: int = 1
    whole_image: bool = False
    published_gflop: float | None = None
    note: str = ""

    @property
    def fields(self) -> set[str]:
        """Names of the fields that the network takes."""
        return {field.name for field in dataclasses.fields(load(self.model))} - {"parent", "name"}


def _baseline(name: str, title: str, model: str, signature: str, bands: str, **facts: Any) -> Network:
    """Returns the entry of a class in the module of `m3sr_jax.models.baselines` that has the network's name."""
    layout, costs = f"m3sr_jax.convert.baselines:{name}_layout", f"m3sr_jax.cost.baselines:{name}_costs"
    return Network(title, f"m3sr_jax.models.baselines.{name}:{model}", layout, costs, signature, bands, **facts)


NETWORKS: dict[str, Network] = {
    "m3sr": Network(
        title="M3SR",
        model="m3sr_jax.models.m3sr:M3SR",
        layout="m3sr_jax.convert.m3sr:m3sr_layout",
        costs="m3sr_jax.cost.m3sr:m3sr_costs",
        signature="body.0.encoder_layers.0.0.blocks.0.weights",
        bands="conv_in.weight",
        release_fields="m3sr_jax.convert.infer:m3sr_fields",
        grid=8,
        published_gflop=100.9,
    ),
    "mst_plus_plus": _baseline(
        *("mst_plus_plus", "MST++", "MSTPlusPlus"),
        signature="body.0.encoder_layers.0.0.blocks.0.0.to_q.weight",
        bands="conv_in.weight",
        grid=8,
        published_gflop=177.7,
    ),
    "hscnn_plus": _baseline(
        *("hscnn_plus", "HSCNN+", "HSCNNPlus"),
        signature="conv.Ex0.conv1.1.weight",
        bands="conv1_final.1.weight",
        published_gflop=808.0,
    ),
    "hrnet": _baseline(
        *("hrnet", "HRNet", "HRNet"),
        signature="top1.conv2d.weight",
        bands="main4.conv2d.weight",
        grid=8,
        published_gflop=1249.0,
    ),
    "gmsr": _baseline(
        *("gmsr", "GMSR", "GMSR"),
        signature="VSS1.self_attention.x_proj_weight",
        bands="conv3.0.weight",
        published_gflop=8.0,
    ),
    "hsrnet": _baseline(
        *("hsrnet", "HSRNet", "HSRNet"),
        signature="HSI1.conv1.1.weight",
        bands="HSI1.conv3.1.weight",
        whole_image=True,
    ),
    "fmnet": _baseline(
        *("fmnet", "FMNet", "FMNet"),
        signature="cdic.base.0.input.weight",
        bands="odic.base.0.output.weight",
        published_gflop=5819.5,
    ),
    "essaformer": _baseline(
        *("essaformer", "ESSAformer", "ESSAformer"),
        signature="blockup.convup.attn.lnqkv.weight",
        bands="conv_last.weight",
        release_fields="m3sr_jax.convert.infer:essaformer_fields",
        whole_image=True,
        note="in a setting of this project: its release enlarges cubes, here it takes RGB at factor 1",
    ),
    "pixel": Network("Pixel", "m3sr_jax.models.pixel:Pixel", costs="m3sr_jax.cost.baselines:pixel_costs"),
    "regression": Network(
        *("Regression", "m3sr_jax.models.base:PlainRegression"), costs="m3sr_jax.cost.baselines:regression_costs"
    ),
}


def load(reference: str | type) -> Any:
    """Imports what "module:name" refers to; returns anything else as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def network_of(model: object) -> Network | None:
    """Returns the entry whose class a model is of, None if no entry has it."""
    kind = type(model)
    names = (kind, f"{kind.__module__}:{kind.__qualname__}")
    return next((network for network in NETWORKS.values() if network.model in names), None)
