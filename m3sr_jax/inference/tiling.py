"""Prediction of large images in overlapping tiles of one size, blended without seams and yielded row by row.

Tiles lie on the network's grid. The network halves an image three times, so a tile that starts off a multiple of 8
pixels differs in fine texture everywhere, not only at its edges. The image is therefore padded to a multiple of 8
first, by reflection at the bottom and the right, as the network itself does.

A tile's window falls off along a squared sine over the overlap and is nowhere zero. The windows are divided by their
sum, which is the product of one sum over the rows and one over the columns. So a pixel's weights add up to 1, and only
one row of tiles is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32

from m3sr_jax.models.m3sr import MULTIPLE


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Spreads tiles almost evenly from one end of an axis to the other, on multiples of 8.

    Args:
        length: length of the axis in pixels; like the others a multiple of 8.
        tile: length of a tile, at most `length`.
        overlap: minimum overlap of neighbours, below `tile`.

    Returns:
        The start of each tile, in ascending order.
    """
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    return [MULTIPLE * round(start) for start in np.linspace(0, (length - tile) // MULTIPLE, count)]


def blend_weights(length: int, tile: int, overlap: int) -> tuple[list[int], Float32[np.ndarray, "n T"]]:
    """Computes the weight of each tile at each pixel of an axis.

    Args:
        length: length of the axis in pixels; like the others a multiple of 8.
        tile: length of a tile, at most `length`.
        overlap: minimum overlap of neighbours, over which windows rise and fall; at most half a tile.

    Returns:
        The start of each tile, and its weights. At every pixel the weights add up to 1, and none is 0.
    """
    starts = tile_starts(length, tile, overlap)
    ramp = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    window = np.ones(tile)
    window[:overlap] *= ramp
    window[tile - overlap :] *= ramp[::-1]
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += window
    return starts, np.array([window / total[start : start + tile] for start in starts], np.float32)


def tiled_rows(
    run: Callable[[Float32[np.ndarray, "T U 3"]], Float32[np.ndarray, "T U S"]],
    rgb: Float32[np.ndarray, "H W 3"],
    tile: int,
    overlap: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Float32[np.ndarray, "h W S"]]:
    """Predicts tile by tile and yields the finished rows of the cube from top to bottom.

    All tiles have one shape, so the network is compiled once. The largest array kept is one row of tiles in float32.

    Args:
        run: the network; maps an image to a cube.
        rgb: photo, normalised as a whole.
        tile: height and width of a tile, a multiple of 8. Along a shorter axis a tile is as long as the image, so a
            large `tile` predicts the image whole.
        overlap: minimum overlap of neighbouring tiles, a multiple of 8 up to half a tile.
        tick: called with (tiles done, tiles in all) after each tile.

    Yields:
        The next (h, W, S) rows, not clipped; valid until the next rows are requested.
    """
    height, width = rgb.shape[:2]
    if height % MULTIPLE or width % MULTIPLE:  # otherwise np.pad would copy for nothing
        rgb = np.pad(rgb, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="reflect")
    sides = [(length, min(tile, length)) for length in rgb.shape[:2]]
    (tops, row_weights), (lefts, column_weights) = (
        blend_weights(length, side, overlap if side < length else 0) for length, side in sides
    )
    (_, rows), (_, columns) = sides
    band = np.zeros((0, 0, 0), np.float32)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            cube = run(rgb[top : top + rows, left : left + columns])
            if not band.size:
                band = np.zeros((rows, rgb.shape[1], cube.shape[-1]), np.float32)
            cube = cube * column_weights[j][None, :, None]
            cube *= row_weights[i][:, None, None]
            band[:, left : left + columns] += cube
            tick(i * len(lefts) + j + 1, len(tops) * len(lefts))
        done = tops[i + 1] - top if i + 1 < len(tops) else rows
        yield band[: min(done, height - top), :width]
        band[: rows - done] = band[done:]
        band[rows - done :] = 0
