"""Prediction of large images in overlapping tiles of one size, blended without seams and yielded row by row.

Tiles lie on the network's grid. A network that halves an image three times has a grid of 8 pixels: a tile that starts
off it differs in fine texture everywhere, not only at its edges. The image is therefore padded to a multiple of the
grid first, by reflection at the bottom and the right, as the network itself does.

Where a tile has a neighbour, its window falls off along a squared sine over the overlap. The windows are divided by
their sum, which is the product of one sum over the rows and one over the columns. So a pixel's weights add up to 1, and
only one row of tiles is in memory. A network whose pixels depend on no others beyond a margin is exact inside that
margin: there windows are zero over it, and so is the error of tiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32, Num

from m3sr_jax.models.m3sr import MULTIPLE


def tile_starts(length: int, tile: int, overlap: int, grid: int = MULTIPLE) -> list[int]:
    """Spreads tiles almost evenly from one end of an axis to the other, on multiples of the grid.

    Args:
        length: length of the axis in pixels; like the others a multiple of `grid`.
        tile: length of a tile, at most `length`.
        overlap: minimum overlap of neighbours, below `tile`.
        grid: pixels.

    Returns:
        The start of each tile, in ascending order.
    """
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    return [grid * round(start) for start in np.linspace(0, (length - tile) // grid, count)]


def blend_weights(
    length: int, tile: int, overlap: int, grid: int = MULTIPLE, margin: int = 0
) -> tuple[list[int], Float32[np.ndarray, "n T"]]:
    """Computes the weight of each tile at each pixel of an axis.

    Args:
        length: length of the axis in pixels; like `tile` and `overlap` a multiple of `grid`.
        tile: length of a tile, at most `length`.
        overlap: minimum overlap of neighbours, over which windows rise and fall; at most half a tile.
        grid: pixels.
        margin: pixels of a tile next to a neighbour that have weight 0; at most half the overlap.

    Returns:
        The start of each tile, and its weights. At every pixel the weights add up to 1; only a margin's are 0.
    """
    starts = tile_starts(length, tile, overlap, grid)
    slope = overlap - 2 * margin
    rising = np.sin(0.5 * np.pi * (np.arange(slope) + 0.5) / max(slope, 1)) ** 2
    ramp = np.concatenate([np.zeros(margin), rising, np.ones(margin)])
    windows, total = np.ones((len(starts), tile)), np.zeros(length)
    windows[1:, :overlap] *= ramp
    windows[:-1, tile - overlap :] *= ramp[::-1]
    for start, window in zip(starts, windows, strict=True):
        total[start : start + tile] += window
    shares = [window / total[start : start + tile] for start, window in zip(starts, windows, strict=True)]
    return starts, np.array(shares, np.float32)


def tiled_rows(
    run: Callable[[Num[np.ndarray, "T U 3"]], Float32[np.ndarray, "T U S"]],
    rgb: Num[np.ndarray, "H W 3"],
    tile: int,
    overlap: int,
    tick: Callable[[int, int], None] = lambda done, total: None,
    *,
    grid: int = MULTIPLE,
    margin: int = 0,
) -> Iterator[Float32[np.ndarray, "h W S"]]:
    """Predicts tile by tile and yields the finished rows of the cube from top to bottom.

    All tiles have one shape, so the network is compiled once. The largest array kept is one row of tiles in float32.

    Args:
        run: the network; maps a part of the photo to a cube.
        rgb: photo.
        tile: height and width of a tile, a multiple of `grid`. Along a shorter axis a tile is as long as the image, so
            a large `tile` predicts the image whole.
        overlap: minimum overlap of neighbouring tiles, a multiple of `grid` up to half a tile.
        tick: called with (tiles done, tiles in all) after each tile.
        grid: multiples of this many pixels are what the network pads an image to.
        margin: see `blend_weights`.

    Yields:
        The next (h, W, S) rows, not clipped; valid until the next rows are requested.
    """
    height, width = rgb.shape[:2]
    if height % grid or width % grid:  # otherwise np.pad would copy for nothing
        rgb = np.pad(rgb, ((0, -height % grid), (0, -width % grid), (0, 0)), mode="reflect")
    sides = [(length, min(tile, length)) for length in rgb.shape[:2]]
    (tops, row_weights), (lefts, column_weights) = (
        blend_weights(length, side, *((overlap, grid, margin) if side < length else (0, grid)))
        for length, side in sides
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
