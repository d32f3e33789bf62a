"""Which network a release checkpoint holds, read off the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from m3sr_jax.config import ModelConfig
from m3sr_jax.config.names import BRANCHES
from m3sr_jax.errors import InputError

# A baseline's name: a tensor that only its release has, and the one whose first axis is the bands.
_BASELINES = {
    "mst_plus_plus": ("body.0.encoder_layers.0.0.blocks.0.0.to_q.weight", "conv_in.weight"),
    "hscnn_plus": ("conv.Ex0.conv1.1.weight", "conv1_final.1.weight"),
    "hrnet": ("top1.conv2d.weight", "main4.conv2d.weight"),
    "gmsr": ("VSS1.self_attention.x_proj_weight", "conv3.0.weight"),
    "hsrnet": ("HSI1.conv1.1.weight", "HSI1.conv3.1.weight"),
    "fmnet": ("cdic.base.0.input.weight", "odic.base.0.output.weight"),
    "essaformer": ("blockup.convup.attn.lnqkv.weight", "conv_last.weight"),
}
# Release name of each branch's first part within an MPF block.
_BRANCH_KEYS = {"spatial": "att_spa.", "frequency": "fre_mamba.", "spectral": "spe_mamba."}


def infer_model(state_dict: Mapping[str, np.ndarray]) -> ModelConfig:
    """Says which network a release state dict holds, with its fields.

    Args:
        state_dict: key → array in the release's layout, without a `module.` prefix.

    Raises:
        InputError: it lacks the tensors that tell; the first is named.

    Source: the release's layout, read from its checkpoints.
    """
    for name, (own, bands) in _BASELINES.items():
        if own in state_dict:
            if name == "essaformer":
                _check_takes_rgb(state_dict)
            return ModelConfig(name=name, num_bands=_shape(state_dict, bands)[0])
    first_block = "body.0.encoder_layers.0.0.blocks.0."
    branches = tuple(name for name in BRANCHES if _any_key(state_dict, first_block + _BRANCH_KEYS[name]))
    groups = ModelConfig.num_groups  # without a spectral branch nothing depends on them
    if "spectral" in branches:
        wide, narrow = _shape(state_dict, first_block + "conv_in.weight")[:2]
        groups = wide // max(narrow, 1)
    places = ("encoder_layers.0.0", "encoder_layers.1.0", "bottleneck")
    return ModelConfig(
        num_groups=groups,
        num_stages=_count(state_dict, "body."),
        num_blocks=tuple(_count(state_dict, f"body.0.{place}.blocks.") for place in places),
        branches=branches,
        num_bands=_shape(state_dict, "conv_in.weight")[0],
        features=_shape(state_dict, "body.0.embedding.weight")[0],
    )


def _check_takes_rgb(state_dict: Mapping[str, np.ndarray]) -> None:
    inputs = _shape(state_dict, "conv_first.weight")[1]
    if inputs != 3:
        raise InputError(
            f"an ESSAformer that enlarges cubes, as its release does: conv_first.weight takes {inputs} channels; "
            "expected 3 (RGB) and no change of size"
        )


def _shape(state_dict: Mapping[str, np.ndarray], key: str) -> tuple[int, ...]:
    if key not in state_dict or state_dict[key].ndim != 4:
        some = ", ".join([*state_dict][:3])
        raise InputError(
            f"not a release checkpoint of a known network: found keys such as {some}, expected a convolution {key}"
        )
    return state_dict[key].shape


def _any_key(state_dict: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state_dict)


def _count(state_dict: Mapping[str, Any], prefix: str) -> int:
    """Returns how many numbers, from 0 on, follow the prefix."""
    count = 0
    while _any_key(state_dict, f"{prefix}{count}."):
        count += 1
    return count
