"""Every score against its definition in float64 NumPy, and SSIM against scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from m3sr_jax.evaluation import metrics

# float32 resolves 6e-8; these tests bound what a sum over 7.6 million values loses on top of that.
RELATIVE = 1e-5


def random_pair(height, width):
    rng = np.random.default_rng(height)
    shape = (2 if height < 100 else 1, height, width, 31)
    return rng.random(shape, np.float32), rng.random(shape, np.float32) + 1e-3


def smooth_pair(height, width, noise=0.01):
    """A scene with flat bright and dark parts and black pixels, and a close reconstruction of it."""
    rows, columns = np.mgrid[:height, :width]
    shading = 0.5 + 0.49 * np.sin(rows / 17)[..., None] * np.cos(columns / 23)[..., None]
    target = shading * (0.6 + 0.4 * np.sin(np.arange(31) / 5))
    target[: height // 3] = 0.97
    target[:3, :4] = 0
    prediction = target + noise * np.random.default_rng(1).standard_normal(target.shape)
    return prediction[None].astype(np.float32), target[None].astype(np.float32)


def definitions(prediction, target, mrae_floor):
    """The five scores of one image, straight from their formulas."""
    x, y = prediction.astype(np.float64), target.astype(np.float64)
    clipped_x, clipped_y = x.clip(0, 1), y.clip(0, 1)
    norms = np.linalg.norm(x, axis=-1), np.linalg.norm(y, axis=-1)
    kept = (norms[0] > 0) & (norms[1] > 0)
    cosine = (x * y).sum(-1)[kept] / (norms[0] * norms[1])[kept]
    ssim = [
        structural_similarity(
            x[..., band], y[..., band], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for band in range(x.shape[-1])
    ]
    return {
        "mrae": np.mean(np.abs(x - y) / np.maximum(y, mrae_floor)),
        "rmse": np.sqrt(np.mean((x - y) ** 2)),
        "psnr": 10 * np.log10(1 / np.mean((clipped_x - clipped_y) ** 2)),
        "psnr_band": np.mean(10 * np.log10(1 / np.mean((clipped_x - clipped_y) ** 2, axis=(0, 1)))),
        "sam": np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(),
        "mssim": np.mean(ssim),
    }


def scores(prediction, target, mrae_floor):
    return {
        "mrae": metrics.mrae(prediction, target, mrae_floor=mrae_floor),
        "rmse": metrics.rmse(prediction, target),
        "psnr": metrics.psnr(prediction, target),
        "psnr_band": metrics.psnr(prediction, target, mode="band"),
        "sam": metrics.sam(prediction, target),
        "mssim": metrics.mssim(prediction, target),
    }


@pytest.mark.parametrize("make", [random_pair, smooth_pair])
@pytest.mark.parametrize(("height", "width"), [(11, 13), (37, 53), (482, 512)])
def test_scores_equal_their_definitions(make, height, width):
    prediction, target = make(height, width)
    computed = scores(prediction, target, 1e-3)
    for image in range(len(target)):
        for name, expected in definitions(prediction[image], target[image], 1e-3).items():
            assert computed[name].shape == (len(target),)
            np.testing.assert_allclose(computed[name][image], expected, rtol=RELATIVE, err_msg=name)


@pytest.mark.parametrize("noise", [1e-3, 1e-5])
def test_spectral_angle_and_similarity_keep_their_digits_near_perfection(noise):
    prediction, target = smooth_pair(64, 64, noise)
    expected = definitions(prediction[0], target[0], 1e-3)
    np.testing.assert_allclose(metrics.sam(prediction, target)[0], expected["sam"], rtol=RELATIVE)
    np.testing.assert_allclose(1 - metrics.mssim(prediction, target)[0], 1 - expected["mssim"], atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 0.03, 1e-3])
def test_psnr_agrees_with_rmse_where_nothing_is_clipped(scale):
    rng = np.random.default_rng(0)
    target = 0.5 + 0.2 * rng.random((1, 40, 40, 31), np.float32)
    prediction = target + scale * (rng.random(target.shape, np.float32) - 0.5)
    decibels = -20 * np.log10(np.float64(metrics.rmse(prediction, target)[0]))
    assert abs(metrics.psnr(prediction, target)[0] - decibels) < 1e-4


def test_psnr_clips_both_cubes_and_the_band_variant_is_never_lower():
    prediction, target = random_pair(20, 20)
    outside = np.where(prediction > 0.5, prediction + 3, prediction - 3)
    clipped = np.where(prediction > 0.5, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(metrics.psnr(outside, target), metrics.psnr(clipped, target))
    graded = target + np.linspace(0.001, 0.2, 31, dtype=np.float32)
    assert (metrics.psnr(graded, target, mode="band") > metrics.psnr(graded, target)).all()


def test_spectral_angle_in_degrees_ignores_scale_and_black_pixels():
    target = np.zeros((1, 2, 2, 4), np.float32)
    prediction = np.zeros_like(target)
    target[0, 0, 0], prediction[0, 0, 0] = [1, 0, 0, 0], [0, 0.2, 0, 0]
    target[0, 0, 1], prediction[0, 0, 1] = [0.3, 0.3, 0, 0], [1, 1, 0, 0]
    target[0, 1, 0] = 0.5
    np.testing.assert_allclose(metrics.sam(prediction, target), [45.0], rtol=1e-6)
    assert np.isnan(metrics.sam(np.zeros_like(target), target)[0])


def test_a_prediction_that_is_not_a_number_shows_in_the_spectral_angle():
    target = np.full((1, 2, 2, 4), 0.5, np.float32)
    prediction = target.copy()
    prediction[0, 0, 0, 1] = np.nan
    prediction[0, 0, 1] = 0
    assert np.isnan(metrics.sam(prediction, target)[0])
    assert np.isnan(metrics.sam_bright(prediction, target)[0])


def test_the_angle_of_bright_pixels_leaves_out_those_below_five_percent_of_white():
    target = np.full((1, 2, 2, 31), 0.5, np.float32)
    target[0, 0, 0] = 0.049
    prediction = target.copy()
    prediction[0, 0, 0, :15] = 0
    assert float(metrics.sam(prediction, target)[0]) > 5
    assert float(metrics.sam_bright(prediction, target)[0]) == 0
    assert np.isnan(metrics.sam_bright(prediction[:, :1, :1], target[:, :1, :1])[0])


def test_zeros_in_the_truth_need_a_floor():
    zeros, ones = np.zeros((1, 2, 2, 3), np.float32), np.ones((1, 2, 2, 3), np.float32)
    assert np.isinf(metrics.mrae(ones, zeros)[0])
    assert np.isnan(metrics.mrae(zeros, zeros)[0])
    np.testing.assert_allclose(metrics.mrae(ones, zeros, mrae_floor=0.25), [4.0])


def test_equal_images_are_perfect():
    image = smooth_pair(32, 32)[1]
    assert metrics.mrae(image, image, mrae_floor=1e-3)[0] == 0
    assert metrics.rmse(image, image)[0] == 0
    assert np.isposinf(metrics.psnr(image, image)[0])
    assert metrics.sam(image, image)[0] == 0
    np.testing.assert_allclose(metrics.mssim(image, image), [1.0], rtol=1e-7)


def test_half_precision_is_scored_in_float32_and_double_in_double():
    prediction, target = smooth_pair(32, 32)
    half = jnp.asarray(prediction, jnp.bfloat16)
    assert metrics.rmse(half, jnp.asarray(target)).dtype == jnp.float32
    np.testing.assert_allclose(metrics.rmse(half, target), metrics.rmse(half.astype(jnp.float32), target))
    with jax.enable_x64():
        doubles = scores(prediction.astype(np.float64), target.astype(np.float64), 1e-3)
        for name, expected in definitions(prediction[0], target[0], 1e-3).items():
            assert doubles[name].dtype == jnp.float64
            np.testing.assert_allclose(doubles[name][0], expected, rtol=1e-11, err_msg=name)


@pytest.mark.parametrize("score", [metrics.mrae, metrics.rmse, metrics.psnr, metrics.sam, metrics.mssim])
def test_cubes_of_different_shapes_are_refused(score):
    cube = jnp.ones((1, 16, 16, 31))
    with pytest.raises((ValueError, TypeError)):
        score(cube, cube[:, :, :, :1])


def test_an_image_smaller_than_the_window_and_an_unknown_mode_are_refused():
    cube = jnp.ones((1, 10, 16, 31))
    with pytest.raises(ValueError, match="at least 11×11"):
        metrics.mssim(cube, cube)
    with pytest.raises((ValueError, TypeError)):
        metrics.psnr(cube, cube, mode="bands")
