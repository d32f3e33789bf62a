"""Losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax import losses


def test_mae_is_the_mean_absolute_error_of_the_batch():
    rng = np.random.default_rng(0)
    prediction, target = rng.random((2, 3, 128, 128, 31), np.float32)
    expected = np.abs(prediction.astype(np.float64) - target).mean()
    computed = losses.LOSSES["mae"](jnp.asarray(prediction), jnp.asarray(target))
    assert computed.shape == ()
    np.testing.assert_allclose(computed, expected, rtol=1e-6)


def test_mae_widens_half_precision_before_the_difference():
    prediction = jnp.full((1, 2, 2, 3), 0.5, jnp.bfloat16)
    target = jnp.full((1, 2, 2, 3), 0.5001, jnp.float32)
    assert losses.mae(prediction, target).dtype == jnp.float32
    np.testing.assert_allclose(losses.mae(prediction, target), 1e-4, rtol=1e-3)


def test_the_gradient_is_a_sign_over_the_count():
    prediction, target = jnp.array([0.2, 0.9]).reshape(1, 1, 1, 2), jnp.array([0.5, 0.1]).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(jax.grad(losses.mae)(prediction, target).ravel(), [-0.5, 0.5])


def test_mae_refuses_shapes_that_would_broadcast():
    with pytest.raises((ValueError, TypeError)):
        losses.mae(jnp.ones((1, 4, 4, 31)), jnp.ones((1, 4, 4, 1)))
