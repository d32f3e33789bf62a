"""Cubes as text within a page: rounded to integer codes, differenced, deflated, base64.

A code is an unsigned 16-bit integer: 0 stands for a missing value (not finite), and k ≥ 1 for offset + (k − 1)·step.
`static/data.js` turns the text back.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt16

MOST_LEVELS, FEWEST_LEVELS = 2**16 - 1, 2**10 - 1
# Characters for all cubes of a page: two of 512×512×31 fit with 14 bits, Bokeh and pictures come on top.
TEXT_BUDGET = 21_500_000
# Beyond two cubes of 512×512×31, neither the budget nor a browser opens them in seconds.
MOST_SAMPLES = 2 * 512 * 512 * 31


@dataclass(frozen=True)
class Scale:
    """What codes mean.

    Attributes:
        offset: the value of code 1.
        step: between neighbouring codes; a coded value is off by half of it at most.
        levels: how many codes there are besides 0.
    """

    offset: float
    step: float
    levels: int


@dataclass(frozen=True)
class PackedCubes:
    """Cubes of one shape and scale, ready to be put into a page.

    Attributes:
        texts: one a cube.
        scale: what their codes mean.
        factor: every factor-th row and column was kept, from factor // 2 on.
        height: rows kept.
        width: columns kept.
        missing: values of the whole cubes, all of them together, that are not finite.
    """

    texts: tuple[str, ...]
    scale: Scale
    factor: int
    height: int
    width: int
    missing: int


def pack_cubes(cubes: Sequence[Float32[np.ndarray, "H W S"]]) -> PackedCubes:
    """Codes cubes on one common scale, as finely as the budget allows.

    Pixels are taken out, never averaged, so that every number in the page is one of the cube's.

    Args:
        cubes: one, or a cube and its truth, of one shape; what is not finite is missing.
    """
    missing = sum(cube.size - int(np.isfinite(cube).sum()) for cube in cubes)
    factor = decimation(sum(cube.size for cube in cubes))
    kept = [cube[factor // 2 :: factor, factor // 2 :: factor] for cube in cubes]
    levels = MOST_LEVELS
    while True:
        scale = fit_scale(kept, levels)
        texts = tuple(pack(encode(cube, scale)) for cube in kept)
        excess = sum(map(len, texts)) - TEXT_BUDGET
        if excess <= 0 or levels <= FEWEST_LEVELS:
            height, width = kept[0].shape[:2]
            return PackedCubes(texts, scale, factor, height, width, missing)
        # A bit less saves at most that bit of every sample: this many are needed at least.
        bits = math.ceil(excess * 6 / sum(cube.size for cube in kept))
        levels = max(levels >> bits, FEWEST_LEVELS)


def decimation(samples: int) -> int:
    """Smallest whole factor by which rows and columns are thinned so that a page opens in seconds."""
    return max(1, math.ceil(math.sqrt(samples / MOST_SAMPLES)))


def fit_scale(cubes: Sequence[Float32[np.ndarray, "H W S"]], levels: int) -> Scale:
    """Spreads `levels` codes evenly from the lowest to the highest finite value."""
    ends = [(float(values.min()), float(values.max())) for cube in cubes if (values := cube[np.isfinite(cube)]).size]
    low, high = (min(end[0] for end in ends), max(end[1] for end in ends)) if ends else (0.0, 0.0)
    return Scale(low, (high - low) / (levels - 1), levels)


def encode(cube: Float32[np.ndarray, "H W S"], scale: Scale) -> UInt16[np.ndarray, "S H W"]:
    """Rounds values to codes, one plane a band."""
    codes = np.empty((cube.shape[2], *cube.shape[:2]), np.uint16)
    for band in range(len(codes)):
        values = (cube[..., band].astype(np.float64) - scale.offset) / (scale.step or 1.0)
        codes[band] = np.rint(np.where(np.isfinite(values), values, -1.0)) + 1
    return codes


def pack(codes: UInt16[np.ndarray, "S H W"]) -> str:
    """Compresses codes without loss.

    Each code becomes its difference (modulo 2^16) from the one to its left, and that from the same of the band before;
    small differences of either sign become small numbers (zigzag); low bytes come first, then high bytes. On photos of
    16 bits this takes 30 % less than differences along one axis alone.
    """
    delta = codes.copy()
    delta[:, :, 1:] -= codes[:, :, :-1]
    delta[1:] -= delta[:-1].copy()
    zigzag = (delta << np.uint16(1)) ^ np.where(delta >> np.uint16(15), np.uint16(0xFFFF), np.uint16(0))
    low_high = zigzag.astype("<u2").reshape(-1).view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(low_high.tobytes(), 6)).decode("ascii")
