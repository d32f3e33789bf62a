"""Cubes packed as text for a page: rounded to integer codes, differenced, deflated and base64-encoded.

A code is an unsigned 16-bit integer: 0 means a missing value (not finite), and k ≥ 1 means offset + (k − 1)·step.
`static/data.js` unpacks the text.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt16

from m3sr_jax.io.strips import every_nth, strips

MAX_LEVELS, MIN_LEVELS = 2**16 - 1, 2**10 - 1
# Characters for all cubes of a page, besides Bokeh and pictures: two cubes of 512×512×31 fit with 14 bits.
TEXT_BUDGET = 21_500_000
# Two cubes of 512×512×31: with more samples, pages outgrow the budget and take browsers too long to open.
MAX_SAMPLES = 2 * 512 * 512 * 31


@dataclass(frozen=True)
class Scale:
    """The meaning of codes.

    Attributes:
        offset: the value of code 1.
        step: difference between neighbouring codes; a coded value is off by at most half a step.
        levels: number of codes, 0 excluded.
    """

    offset: float
    step: float
    levels: int


@dataclass(frozen=True)
class PackedCubes:
    """Cubes of one shape and scale, ready for a page.

    Attributes:
        texts: one per cube, and one of half-widths if there are any.
        scale: the meaning of their codes.
        factor: every factor-th row and column is kept, see `m3sr_jax.io.strips.every_nth`.
        height: number of rows kept.
        width: number of columns kept.
        missing: number of values that are not finite, in all cubes before decimation.
    """

    texts: tuple[str, ...]
    scale: Scale
    factor: int
    height: int
    width: int
    missing: int


def pack_cubes(
    cubes: Sequence[Float32[np.ndarray, "H W S"]], interval: Float32[np.ndarray, "h w S"] | None = None
) -> PackedCubes:
    """Packs cubes on one common scale, as finely as the budget allows.

    Large cubes are decimated, never averaged, so that every number in the page comes from the cube.

    Args:
        cubes: a cube, or a cube and its truth of the same shape; values that are not finite are missing.
        interval: half-widths of the cube's intervals, of the rows and columns that the page keeps: every n-th, with
            n = decimation((number of cubes + 1) · values of one).
    """
    missing = sum(int((~np.isfinite(cube[rows])).sum()) for cube in cubes for rows in strips(cube.shape))
    factor = decimation(cubes[0].size * (len(cubes) + (interval is not None)))
    kept = [every_nth(cube, factor) for cube in cubes]
    if interval is not None:
        if interval.shape != kept[0].shape:
            raise ValueError(f"found half-widths {interval.shape}; expected {kept[0].shape}, one value in {factor}²")
        kept.append(_coarse(interval))
    levels = MAX_LEVELS
    while True:
        scale = fit_scale(kept, levels)
        texts = tuple(pack(encode(cube, scale)) for cube in kept)
        excess = sum(map(len, texts)) - TEXT_BUDGET
        if excess <= 0 or levels <= MIN_LEVELS:
            height, width = kept[0].shape[:2]
            return PackedCubes(texts, scale, factor, height, width, missing)
        # Dropping a bit saves at most one bit per sample (a character holds 6): at least this many have to go.
        bits = math.ceil(excess * 6 / sum(cube.size for cube in kept))
        levels = max(levels >> bits, MIN_LEVELS)


def _coarse(interval: Float32[np.ndarray, "h w S"]) -> Float32[np.ndarray, "h w S"]:
    """Rounds half-widths to thousandths of the largest, which saves half of their text."""
    step = max(float(np.max(interval, initial=0, where=np.isfinite(interval))), 1e-9) / 1000
    return (np.rint(interval / step) * step).astype(np.float32)


def decimation(samples: int) -> int:
    """Returns the smallest factor of decimation that brings the samples of a page down to `MAX_SAMPLES`."""
    return max(1, math.ceil(math.sqrt(samples / MAX_SAMPLES)))


def fit_scale(cubes: Sequence[Float32[np.ndarray, "H W S"]], levels: int) -> Scale:
    """Spreads `levels` codes evenly from the lowest to the highest finite value."""
    ends = [(float(values.min()), float(values.max())) for cube in cubes if (values := cube[np.isfinite(cube)]).size]
    low, high = (min(end[0] for end in ends), max(end[1] for end in ends)) if ends else (0.0, 0.0)
    return Scale(low, (high - low) / (levels - 1), levels)


def encode(cube: Float32[np.ndarray, "H W S"], scale: Scale) -> UInt16[np.ndarray, "S H W"]:
    """Rounds values to codes, one plane per band."""
    codes = np.empty((cube.shape[2], *cube.shape[:2]), np.uint16)
    for band in range(len(codes)):
        values = (cube[..., band].astype(np.float64) - scale.offset) / (scale.step or 1.0)
        codes[band] = np.rint(np.where(np.isfinite(values), values, -1.0)) + 1
    return codes


def pack(codes: UInt16[np.ndarray, "S H W"]) -> str:
    """Compresses codes without loss.

    Each code becomes its difference (modulo 2^16) from its left neighbour, and that the difference from the previous
    band's. Zigzag coding maps small differences of either sign to small numbers. All low bytes precede all high bytes.
    For 16-bit cubes the text is 30 % shorter than with differences along one axis alone.
    """
    delta = codes.copy()
    delta[:, :, 1:] -= codes[:, :, :-1]
    delta[1:] -= delta[:-1].copy()
    zigzag = (delta << np.uint16(1)) ^ np.where(delta >> np.uint16(15), np.uint16(0xFFFF), np.uint16(0))
    low_high = zigzag.astype("<u2").reshape(-1).view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(low_high.tobytes(), 6)).decode("ascii")
