import jax
import jax.numpy as jnp
import numpy as np
import pytest
from release_numbers import QUICK

from m3sr_jax.models import create, init_params
from m3sr_jax.models.baselines.gmsr import _in_order, _to_image


@pytest.mark.parametrize("direction", range(4))
def test_scan_orders_visit_every_pixel_once_and_return(direction):
    image = jnp.arange(15.0).reshape(1, 3, 5, 1)
    sequence = _in_order(image, direction)
    orders = [np.arange(15), np.arange(15).reshape(3, 5).T.ravel()]
    expected = orders[direction % 2][:: -1 if direction >= 2 else 1]
    np.testing.assert_array_equal(sequence[0, :, 0], expected)
    np.testing.assert_array_equal(_to_image(sequence, direction, 3, 5), image)


def test_a_constant_image_gives_numbers_and_gradients():
    """0/0 in the release."""
    model = create("gmsr", num_bands=6, implementation="reference")
    params = init_params(model, jax.random.key(0))
    run = jax.value_and_grad(lambda params: model.apply({"params": params}, jnp.full((1, 6, 6, 3), 0.5)).sum())
    value, grads = jax.jit(run, compiler_options=QUICK)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_training_drops_branches():
    model = create("gmsr", num_bands=6, implementation="reference")
    params = init_params(model, jax.random.key(0))
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    run = jax.jit(lambda rngs: model.apply({"params": params}, rgb, rngs=rngs), compiler_options=QUICK)
    assert np.abs(run({}) - run({"dropout": jax.random.key(0)})).max() > 0
