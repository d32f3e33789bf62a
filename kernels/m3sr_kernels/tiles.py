"""Tile sizes of the GPU kernels: op → device kind → parameters, stored in `tiles.json` beside this module."""

from __future__ import annotations

import functools
import json
from importlib import resources

import jax

TABLE: dict[str, dict[str, dict[str, int]]] = json.loads((resources.files("m3sr_kernels") / "tiles.json").read_text())


def tiles(op: str, device_kind: str | None = None) -> dict[str, int]:
    """The tile sizes of `op` on a kind of device.

    Args:
      op: a key of `tiles.json`.
      device_kind: `jax.Device.device_kind`, such as "NVIDIA H200"; None means that of the first local GPU. Kinds that
        have not been tuned, and machines without a GPU, use "default".

    Returns:
      A copy of the parameters, by name; the kernels that use them say what they mean.
    """
    by_kind = TABLE[op]
    return dict(by_kind.get(device_kind or _local_kind(), by_kind["default"]))


@functools.cache
def _local_kind() -> str:
    try:
        return jax.local_devices(backend="gpu")[0].device_kind
    except RuntimeError:  # no local GPU: the program is lowered for another machine
        return "default"
