"""Losses against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.config import LossConfig
from m3sr_jax.training import losses


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


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    target = rng.random((2, 6, 8, 31), np.float32)
    target[0, 0, 0, :3] = 0
    return rng.random(target.shape, np.float32), target


def test_mrae_divides_by_the_truth_or_the_floor(pair):
    prediction, target = pair
    expected = (np.abs(prediction - target) / np.maximum(target, 0.01)).mean()
    np.testing.assert_allclose(losses.mrae(*map(jnp.asarray, pair), mrae_floor=0.01), expected, rtol=1e-5)
    assert np.isfinite(losses.mrae(jnp.asarray(prediction), jnp.zeros_like(target)))


def test_spectral_angle_is_the_mean_angle(pair):
    x, y = (cube.astype(np.float64) for cube in pair)
    cosines = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    # The floor under the norms takes 1e-6 of a squared norm near 10 away.
    np.testing.assert_allclose(losses.spectral_angle(*map(jnp.asarray, pair)), np.arccos(cosines).mean(), rtol=1e-5)


def test_every_loss_and_slope_is_finite_where_spectra_agree_or_vanish(pair):
    target = jnp.asarray(pair[1]).at[0, :3].set(0.0)
    prediction = target.at[1].set(0.0)
    for name, loss in losses.LOSSES.items():
        value, slope = jax.value_and_grad(loss)(prediction, target)
        assert jnp.isfinite(value), name
        assert jnp.isfinite(slope).all(), name
        assert float(loss(target, target)) < 1e-3, name  # two black pixels make an angle of 2e-3


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_wavelet_is_the_mean_absolute_error_of_the_bands(pair, size):
    import pywt

    cubes = [cube[:, : size[0], : size[1]] for cube in pair]
    bands = [pywt.dwt2(cube.astype(np.float64), "haar", mode="zero", axes=(1, 2)) for cube in cubes]
    flat = [np.stack([low, *details]) for low, details in bands]
    computed = losses.wavelet(*map(jnp.asarray, cubes))
    np.testing.assert_allclose(computed, np.abs(flat[0] - flat[1]).mean(), rtol=1e-5)


def test_a_weighted_sum_is_one(pair):
    x, y = map(jnp.asarray, pair)
    config = LossConfig(mae=0.5, mrae=0.1, spectral_angle=2.0, wavelet=0.25, mrae_floor=0.02)
    expected = 0.5 * losses.mae(x, y) + 0.1 * losses.mrae(x, y, mrae_floor=0.02)
    expected += 2.0 * losses.spectral_angle(x, y) + 0.25 * losses.wavelet(x, y)
    np.testing.assert_allclose(losses.weighted_loss(config)(x, y), expected, rtol=1e-6)
    assert losses.weighted_loss(LossConfig()) is losses.mae
