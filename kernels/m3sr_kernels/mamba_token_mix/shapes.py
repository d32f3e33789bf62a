"""The blocks that M3SR runs, around the scans of `m3sr_kernels.s6_scan.shapes`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from m3sr_kernels.s6_scan.shapes import SHAPES as SCANS


class Shape(NamedTuple):
    """Sizes of a `mamba_token_mix`: sequences, tokens, features (half the scan's channels), states."""

    batch: int
    length: int
    features: int
    states: int = 16

    @property
    def arguments(self) -> dict[str, Any]:
        """The shape of each argument, by name; "params" holds those of the parameters."""
        C, D, N = self.features, 2 * self.features, self.states
        rank = math.ceil(C / 16)
        params = {"in_proj": (C, 2 * D), "conv_kernel": (4, D), "conv_bias": (D,), "x_proj": (D, rank + 2 * N)}
        params |= {"dt_proj": (rank, D), "dt_bias": (D,), "a_log": (D, N), "d": (D,), "out_proj": (D, C)}
        return {"tokens": (self.batch, self.length, C), "params": params}


SHAPES = {name: Shape(scan.batch, scan.length, scan.channels // 2, scan.states) for name, scan in SCANS.items()}
