"""Fusion of the branches, and groups of blocks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.config.names import BRANCHES
from m3sr_jax.models.frequency import FrequencyBranch
from m3sr_jax.models.mpf import FUSION_ORDER, BlockGroup, MPFBlock

make_block = partial(MPFBlock, num_groups=2, implementation="reference")


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(0), (1, 8, 8, 4))


@pytest.mark.parametrize("branches", [BRANCHES, ("frequency", "spatial"), ("spectral",)])
def test_only_the_branches_asked_for_own_parameters(image, branches):
    params = jax.eval_shape(make_block(branches=branches).init, jax.random.key(0), image)["params"]
    assert set(params) == {"fusion", *branches}
    assert params["fusion"].shape == (len(branches),)


def test_fusion_weights_have_the_release_s_order():
    assert FUSION_ORDER == ("spatial", "spectral", "frequency")


def test_fusion_is_a_softmax_in_a_fixed_order(quick_jit, image):
    block = make_block(branches=("frequency", "spatial"))
    params = quick_jit(block.init)(jax.random.key(1), image)["params"]
    np.testing.assert_allclose(params["fusion"], 1 / 3)
    # All weight on the second, which is the frequency branch whatever the order of the field.
    params["fusion"] = jnp.array([-40.0, 40.0])
    branch = FrequencyBranch(implementation="reference")
    expected = image + quick_jit(branch.apply)({"params": params["frequency"]}, image)
    np.testing.assert_allclose(quick_jit(block.apply)({"params": params}, image), expected, atol=1e-5)


def test_group_adds_its_input_to_every_block(quick_jit, image):
    group = BlockGroup(2, partial(make_block, branches=("frequency",)))
    params = quick_jit(group.init)(jax.random.key(1), image)["params"]
    assert set(params) == {"block_0", "block_1"}
    for block in params.values():
        block["frequency"]["residual"]["ss2d"]["out_proj"]["kernel"] *= 0
    # Each block then gives branch(x) + x = 2x, and the group adds x: three times the input, twice over.
    np.testing.assert_allclose(quick_jit(group.apply)({"params": params}, image), 9 * image, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32_with_finite_gradients(quick_jit, image):
    params = quick_jit(make_block().init)(jax.random.key(1), image)["params"]

    def loss(params, dtype):
        return jnp.square(
            make_block(dtype=dtype).apply({"params": params}, image.astype(dtype)).astype(jnp.float32)
        ).mean()

    narrow, gradients = quick_jit(jax.value_and_grad(loss), static_argnums=1)(params, jnp.bfloat16)
    full = quick_jit(loss, static_argnums=1)(params, jnp.float32)
    # Eight bits of mantissa through a few products.
    assert float(narrow) == pytest.approx(float(full), rel=0.02)
    for gradient in jax.tree.leaves(gradients):
        assert gradient.dtype == jnp.float32
        assert bool(jnp.isfinite(gradient).all())
        assert gradient.any()
