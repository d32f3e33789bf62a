"""The eight symmetries and their mean."""

import numpy as np
import pytest

from m3sr_jax.data.pipeline import turned
from m3sr_jax.inference.ensemble import SYMMETRIES, restore, self_ensemble

IMAGE = np.random.default_rng(0).random((5, 7, 3), np.float32)


@pytest.mark.parametrize("pose", SYMMETRIES)
def test_every_symmetry_is_undone_exactly(pose):
    np.testing.assert_array_equal(restore(turned(IMAGE, *pose), *pose), IMAGE)


def test_the_symmetries_are_all_eight():
    square = IMAGE[:, :5]
    images = {turned(square, *pose).tobytes() for pose in SYMMETRIES}
    assert len(images) == 8
    known = [square, square[::-1], square[:, ::-1], square.swapaxes(0, 1), square[::-1, ::-1].swapaxes(0, 1)]
    assert all(np.ascontiguousarray(image).tobytes() in images for image in known)


def test_predictions_are_turned_back_before_averaging():
    """For a network that returns the right neighbour, the mean over the eight counts each neighbour twice."""

    def right_neighbour(rgb):
        return np.pad(rgb[:, 1:], ((0, 0), (0, 1), (0, 0)))

    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    neighbours = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    np.testing.assert_allclose(self_ensemble(right_neighbour, IMAGE), sum(neighbours) / 4, rtol=1e-6, atol=1e-7)


def test_a_network_without_direction_is_unchanged():
    np.testing.assert_allclose(self_ensemble(np.square, IMAGE), IMAGE**2, rtol=1e-6)
