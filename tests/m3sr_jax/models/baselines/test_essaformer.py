import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from quick_compilation import QUICK

from m3sr_jax.models import create, init_params
from m3sr_jax.models.baselines.essaformer import DROP_CHANNEL


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


def test_training_drops_channels_of_a_sample_as_a_whole(network):
    model, params = network
    _, state = model.apply(
        {"params": params},
        jax.random.uniform(jax.random.key(1), (50, 2, 3, 3)),
        rngs={"dropout": jax.random.key(0)},
        capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
    )
    whole = [(kept == 0).all((1, 2)) for kept in jax.tree.leaves(state["intermediates"])]
    assert len(whole) == 3 * 5
    dropped = np.concatenate([np.asarray(channels).ravel() for channels in whole])
    assert abs(dropped.mean() - DROP_CHANNEL) < 0.01


def test_nothing_is_dropped_without_a_key(network):
    model, params = network
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    run = jax.jit(lambda rngs: model.apply({"params": params}, rgb, rngs=rngs), compiler_options=QUICK)
    assert np.abs(run({}) - run({"dropout": jax.random.key(0)})).max() > 0


def test_other_images_of_a_batch_do_not_matter(network):
    model, params = network
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 9, 3))
    run = jax.jit(lambda rgb: model.apply({"params": params}, rgb), compiler_options=QUICK)
    np.testing.assert_allclose(run(rgb)[:1], run(rgb[:1]), atol=1e-6)
