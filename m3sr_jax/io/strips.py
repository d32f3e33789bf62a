"""Rows of a large array a few at a time, so that temporary arrays stay small."""

from __future__ import annotations

import math

STRIP_VALUES = 2**22


def strips(shape: tuple[int, ...]) -> list[slice]:
    """Splits the rows of an array of this shape into slices of some million values."""
    step = max(1, STRIP_VALUES // max(1, math.prod(shape[1:])))
    return [slice(start, start + step) for start in range(0, shape[0], step)]
