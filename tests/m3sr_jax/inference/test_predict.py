"""One image in, one cube out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from m3sr_jax.errors import InputError
from m3sr_jax.inference.predict import normalise_rgb, predict
from m3sr_jax.models import M3SR


class Bands(nn.Module):
    """A one-layer network that notes how often it is traced."""

    traces = []  # noqa: RUF012  shared by the instances on purpose

    @nn.compact
    def __call__(self, rgb):
        self.traces.append(rgb.shape)
        return nn.Dense(31)(rgb)


def test_the_program_is_compiled_once_for_each_size():
    params = Bands().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    images = [np.full((size, size + 1, 3), 0.5, np.float32) for size in (12, 12, 20, 12)]
    Bands.traces.clear()
    cubes = [predict(Bands(), params, image) for image in images]
    assert Bands.traces == [(1, 12, 13, 3), (1, 20, 21, 3)]
    expected = 0.5 * params["Dense_0"]["kernel"].sum(0) + params["Dense_0"]["bias"]
    np.testing.assert_allclose(cubes[2], np.broadcast_to(expected, (20, 21, 31)), rtol=1e-5)
    assert cubes[0].dtype == np.float32


def test_an_image_the_model_refuses_is_bad_input():
    with pytest.raises(InputError, match="7×40 pixels"):
        predict(M3SR(), {}, np.zeros((7, 40, 3), np.float32))


def test_normalisation_is_per_image_over_all_channels():
    rgb = np.random.default_rng(0).random((4, 5, 3), np.float32) * 0.5 + 0.2
    np.testing.assert_array_equal(normalise_rgb(rgb, "unit"), rgb)
    stretched = normalise_rgb(rgb, "minmax")
    assert (stretched.min(), stretched.max()) == (0, 1)
    np.testing.assert_allclose(stretched * (rgb.max() - rgb.min()) + rgb.min(), rgb, rtol=1e-6)
    np.testing.assert_array_equal(normalise_rgb(np.full((2, 2, 3), 0.3, np.float32), "minmax"), 0)
    with pytest.raises(ValueError, match="mean"):
        normalise_rgb(rgb, "mean")
