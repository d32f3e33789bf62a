import jax
import jax.numpy as jnp
import numpy as np
from quick_compilation import QUICK

from m3sr_jax.models import create, init_params
from m3sr_jax.models.baselines.gmsr import DROP_PATH


def test_a_constant_image_gives_numbers_and_gradients():
    """0/0 in the release."""
    model = create("gmsr", num_bands=6, implementation="reference")
    params = init_params(model, jax.random.key(0))
    run = jax.value_and_grad(lambda params: model.apply({"params": params}, jnp.full((1, 6, 6, 3), 0.5)).sum())
    value, grads = jax.jit(run, compiler_options=QUICK)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_training_drops_whole_branches_and_keeps_their_mean():
    model = create("gmsr", num_bands=6, implementation="reference")
    params = init_params(model, jax.random.key(0))
    dropper = model.bind({"params": params}, rngs={"dropout": jax.random.key(3)})
    x = jnp.ones((4000, 1, 1, 2))
    dropped = np.asarray(dropper._drop_path(x))[:, 0, 0]
    assert (dropped[:, 0] == dropped[:, 1]).all()
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - DROP_PATH)], rtol=1e-6)
    assert abs(dropped.mean() - 1) < 0.02  # 4 standard deviations
    rgb = jax.random.uniform(jax.random.key(1), (2, 6, 6, 3))
    run = jax.jit(lambda rngs: model.apply({"params": params}, rgb, rngs=rngs), compiler_options=QUICK)
    assert np.abs(run({}) - run({"dropout": jax.random.key(0)})).max() > 0
