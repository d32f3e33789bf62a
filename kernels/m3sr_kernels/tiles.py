"""Tile sizes of the GPU kernels: op → device kind → parameters, kept as data in `tiles.json` beside this module."""

from __future__ import annotations

import functools
import json
from importlib import resources

import jax


def tiles(op: str, device_kind: str | None = None) -> dict[str, int]:
    """The tile sizes of `op` on a kind of device.

    Args:
      op: a key of `tiles.json`.
      device_kind: `jax.Device.device_kind`, such as "NVIDIA H200"; None takes the first GPU's here. A kind that nobody
        has tuned for, or a machine without a GPU, takes "default".

    Returns:
      Parameters by name, a copy: what they mean is said where they are used.
    """
    by_kind = _table()[op]
    return dict(by_kind.get(device_kind or _local_kind(), by_kind["default"]))


@functools.cache
def _table() -> dict[str, dict[str, dict[str, int]]]:
    return json.loads(resources.files("m3sr_kernels").joinpath("tiles.json").read_text())


@functools.cache
def _local_kind() -> str:
    try:
        return jax.local_devices(backend="gpu")[0].device_kind
    except RuntimeError:  # no GPU backend: lowering for one from a machine without
        return "default"
