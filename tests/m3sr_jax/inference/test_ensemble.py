"""The eight symmetries and their mean."""

import numpy as np
import pytest

from m3sr_jax.data.pipeline import turned
from m3sr_jax.inference.ensemble import SYMMETRIES, restore, self_ensemble

IMAGE = np.random.default_rng(0).random((5, 7, 3), np.float32)


@pytest.mark.parametrize("which", SYMMETRIES)
def test_every_symmetry_is_undone_exactly(which):
    np.testing.assert_array_equal(restore(turned(IMAGE, *which), *which), IMAGE)


def test_the_symmetries_are_all_eight():
    square = IMAGE[:, :5]
    images = {turned(square, *which).tobytes() for which in SYMMETRIES}
    assert len(images) == 8
    known = [square, square[::-1], square[:, ::-1], square.swapaxes(0, 1), square[::-1, ::-1].swapaxes(0, 1)]
    assert all(np.ascontiguousarray(image).tobytes() in images for image in known)


def test_the_mean_goes_over_answers_turned_back():
    """A network that looks one pixel to the right: its mean over the eight sees every neighbour twice."""

    def right_neighbour(rgb):
        return np.pad(rgb[:, 1:], ((0, 0), (0, 1), (0, 0)))

    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    neighbours = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    np.testing.assert_allclose(self_ensemble(right_neighbour, IMAGE), sum(neighbours) / 4, rtol=1e-6, atol=1e-7)


def test_a_network_that_knows_no_direction_is_left_as_it_is():
    np.testing.assert_allclose(self_ensemble(np.square, IMAGE), IMAGE**2, rtol=1e-6)
