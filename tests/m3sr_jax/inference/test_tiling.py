"""Tiles cover an image on the network's grid, and their weights add up to one, so local networks are unchanged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3sr_jax.inference.tiling import blend_weights, tile_starts, tiled_rows

# Weights are products of two float32 numbers, so their sum is one up to rounding.
SUM_TOLERANCE = 3e-7


@settings(deadline=None)  # the first example pays for imports
@given(st.integers(8, 600), st.integers(8, 60), st.integers(0, 30))
def test_tiles_cover_an_axis_on_multiples_of_8(length, tile, overlap):
    length, tile, overlap = (8 * length, 8 * min(tile, length), 8 * min(overlap, min(tile, length) // 2))
    starts = tile_starts(length, tile, overlap)
    assert (starts[0], starts[-1]) == (0, length - tile)
    assert all(start % 8 == 0 for start in starts)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(64, 64, 0), (640, 448, 64), (400, 192, 96), (4000, 448, 64)])
def test_weights_add_up_to_one_and_none_is_zero(length, tile, overlap):
    starts, weights = blend_weights(length, tile, overlap)
    assert weights.min() > 0
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=SUM_TOLERANCE)


def test_windows_are_smooth():
    _, weights = blend_weights(640, 448, 64)
    # The steepest slope of sin² over 64 pixels is π/128 a pixel.
    assert np.abs(np.diff(weights, axis=1)).max() < 1.01 * np.pi / 128


@pytest.mark.parametrize(("length", "tile", "overlap", "margin"), [(201, 64, 24, 11), (72, 64, 32, 16), (65, 64, 8, 4)])
def test_tiles_have_no_weight_within_a_margin_of_their_neighbours(length, tile, overlap, margin):
    starts, weights = blend_weights(length, tile, overlap, 1, margin)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    np.testing.assert_allclose(total, 1, rtol=0, atol=SUM_TOLERANCE)
    assert (weights[1:, :margin] == 0).all()
    assert (weights[:-1, tile - margin :] == 0).all()


def test_a_network_that_reaches_as_far_as_the_margin_is_exact_in_tiles():
    """It averages over 11×11 pixels, zeros beyond its image: the same in tiles, at all sizes, without padding."""
    rgb = np.random.default_rng(0).random((83, 131, 3), np.float32)

    def run(image):
        padded = np.pad(image[..., 0], 5)
        height, width = image.shape[:2]
        return np.mean([padded[i : i + height, j : j + width] for i in range(11) for j in range(11)], 0)[..., None]

    rows = [part.copy() for part in tiled_rows(run, rgb, 40, 16, grid=1, margin=5)]
    np.testing.assert_allclose(np.concatenate(rows), run(rgb), rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "tile"), [(83, 131, 64), (64, 200, 64), (40, 90, 64), (83, 131, 136)])
def test_a_local_network_gives_the_same_in_tiles(height, width, tile):
    rgb = np.random.default_rng(0).random((height, width, 3), np.float32)
    shapes, ticks, rows = set(), [], []

    def run(image):
        shapes.add(image.shape)
        return np.repeat(image.sum(-1, keepdims=True), 5, axis=-1)

    for part in tiled_rows(run, rgb, tile, 16, lambda done, total: ticks.append((done, total))):
        rows.append(part.copy())
    assert len(shapes) == 1
    assert ticks == [(i + 1, len(ticks)) for i in range(len(ticks))]
    assert max(map(len, rows)) <= tile
    np.testing.assert_allclose(np.concatenate(rows), np.repeat(rgb.sum(-1)[..., None], 5, axis=-1), rtol=1e-6)


def test_tiles_are_blended_by_their_weights():
    """Each tile predicts its own index: along a row the values pass smoothly from one to the next."""
    numbers = iter(range(100))

    def run(image):
        return np.full((*image.shape[:2], 1), next(numbers), np.float32)

    rows = next(tiled_rows(run, np.zeros((64, 112, 3), np.float32), 64, 16))
    assert (rows[:, :48] == 0).all()
    np.testing.assert_allclose(rows[5, 64:, 0], 1, atol=SUM_TOLERANCE)
    assert (np.diff(rows[5, 48:64, 0]) > 0).all()
