"""Which network a release checkpoint holds, inferred from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from m3sr_jax.config import ModelConfig
from m3sr_jax.config.names import BRANCHES
from m3sr_jax.errors import InputError
from m3sr_jax.networks import NETWORKS, load

# Release name of each branch's first part within an MPF block.
_BRANCH_KEYS = {"spatial": "att_spa.", "frequency": "fre_mamba.", "spectral": "spe_mamba."}


def infer_model(state_dict: Mapping[str, np.ndarray]) -> ModelConfig:
    """Returns the fields of the network whose release a state dict is.

    Args:
        state_dict: key → array in the release's layout, without a `module.` prefix.

    Raises:
        InputError: it has no known network's signature, or lacks a tensor that says how large the network is.
    """
    for name, network in NETWORKS.items():
        if network.signature and network.signature in state_dict:
            fields = load(network.release_fields)(state_dict) if network.release_fields else {}
            return ModelConfig(name=name, num_bands=_shape(state_dict, network.bands)[0], **fields)
    found, expected = ", ".join([*state_dict][:3]), ", ".join(n.title for n in NETWORKS.values() if n.signature)
    raise InputError(f"not a release checkpoint: found keys such as {found}, expected those of {expected}")


def m3sr_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the fields of an M3SR, its bands apart, from its release's state dict.

    Source: the layout of the authors' release.
    """
    first_block = "body.0.encoder_layers.0.0.blocks.0."
    branches = tuple(name for name in BRANCHES if _any_key(state_dict, first_block + _BRANCH_KEYS[name]))
    groups = ModelConfig.num_groups  # without a spectral branch nothing depends on them
    if "spectral" in branches:
        wide, narrow = _shape(state_dict, first_block + "conv_in.weight")[:2]
        groups = wide // max(narrow, 1)
    levels = ("encoder_layers.0.0", "encoder_layers.1.0", "bottleneck")
    return {
        "num_groups": groups,
        "num_stages": _count(state_dict, "body."),
        "num_blocks": tuple(_count(state_dict, f"body.0.{level}.blocks.") for level in levels),
        "branches": branches,
        "features": _shape(state_dict, "body.0.embedding.weight")[0],
    }


def essaformer_fields(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Refuses ESSAformers that enlarge cubes, as those of its release do; returns no fields."""
    inputs = _shape(state_dict, "conv_first.weight")[1]
    if inputs != 3:
        raise InputError(f"ESSAformer that enlarges cubes of {inputs} bands: expected one for RGB, with 3 inputs")
    return {}


def _shape(state_dict: Mapping[str, np.ndarray], key: str) -> tuple[int, ...]:
    if key not in state_dict or state_dict[key].ndim != 4:
        found = "no such tensor" if key not in state_dict else f"shape {state_dict[key].shape}"
        raise InputError(f"{key}: found {found}, expected the four axes of a convolution")
    return state_dict[key].shape


def _any_key(state_dict: Mapping[str, Any], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state_dict)


def _count(state_dict: Mapping[str, Any], prefix: str) -> int:
    """Counts the numbers 0, 1, 2 … that follow the prefix."""
    count = 0
    while _any_key(state_dict, f"{prefix}{count}."):
        count += 1
    return count
