import jax
import jax.numpy as jnp
import numpy as np
import pytest
from release_numbers import QUICK

from m3sr_jax.models import create, init_params


@pytest.fixture(scope="module")
def network():
    model = create("essaformer", num_bands=5, width=8)
    return model, init_params(model, jax.random.key(0))


def test_a_constant_image_gives_numbers_and_gradients(network):
    model, params = network
    run = jax.value_and_grad(lambda params: model.apply({"params": params}, jnp.full((1, 6, 6, 3), 0.5)).sum())
    value, grads = jax.jit(run, compiler_options=QUICK)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_training_drops_channels(network):
    model, params = network
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    run = jax.jit(lambda rngs: model.apply({"params": params}, rgb, rngs=rngs), compiler_options=QUICK)
    assert np.abs(run({}) - run({"dropout": jax.random.key(0)})).max() > 0


def test_other_images_of_a_batch_do_not_matter(network):
    model, params = network
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 9, 3))
    run = jax.jit(lambda rgb: model.apply({"params": params}, rgb), compiler_options=QUICK)
    np.testing.assert_allclose(run(rgb)[:1], run(rgb[:1]), atol=1e-6)
