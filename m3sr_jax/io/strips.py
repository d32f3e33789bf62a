"""Large arrays: a few rows at a time, so that temporary arrays stay small, or a few of all pixels."""

from __future__ import annotations

import math

import numpy as np

STRIP_VALUES = 2**22


def strips(shape: tuple[int, ...]) -> list[slice]:
    """Splits the rows of an array of this shape into slices of some million values."""
    step = max(1, STRIP_VALUES // max(1, math.prod(shape[1:])))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def every_nth(values: np.ndarray, step: int) -> np.ndarray:
    """Returns every step-th row and column of an array (H, W, …), from step // 2 on; of fewer than that, the last."""
    rows, columns = (slice(min(step // 2, extent - 1), None, step) for extent in values.shape[:2])
    return values[rows, columns]
