import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.models import create, init_params
from m3sr_jax.models.baselines.fmnet import interpolate_bands


def test_bands_are_interpolated_from_red_to_blue():
    cube = interpolate_bands(jnp.array([[[[0.2, 0.5, 0.9]]]]), 31)[0, 0, 0]
    np.testing.assert_allclose(cube[:5], 0.2, rtol=1e-6)
    np.testing.assert_allclose(cube[15], 0.5, rtol=1e-6)
    np.testing.assert_allclose(cube[26:], 0.9, rtol=1e-6)
    place = 3 * (8 + 0.5) / 31 - 0.5  # between red and green
    np.testing.assert_allclose(cube[8], 0.2 + 0.3 * place, rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_pixel_depends_on_those_within_the_margin_alone(blocks):
    model = create("fmnet", blocks=blocks, width=2, num_bands=2)
    margin = model.margin
    assert create("fmnet").margin == 65
    length = 2 * margin + 3
    params = init_params(model, jax.random.key(0))
    # All weights alike and positive, so that no path is closed by a ReLU.
    params = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, params)
    rgb = jnp.full((1, 1, length, 3), 0.5)
    seen = jax.grad(lambda rgb: model.apply({"params": params}, rgb)[0, 0, margin + 1].sum())(rgb)[0, 0]
    reached = np.flatnonzero(np.abs(seen).sum(-1))
    assert (reached[0], reached[-1]) == (1, length - 2)
