"""The scores on a page, against the metrics."""

import numpy as np
import pytest

from m3sr_jax.evaluation import metrics
from m3sr_jax.viewer.comparison import compare

# The metrics are computed in float32.
FLOAT32 = 1e-5


@pytest.fixture
def cubes():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1.2, (150, 7, 5)).astype(np.float32)
    truth[3, 4] = 0
    return truth + rng.normal(0, 0.1, truth.shape).astype(np.float32), truth


def test_scores_equal_the_metrics(cubes):
    cube, truth = cubes
    result = compare(cube, truth)
    for name in ("rmse", "psnr", "sam"):
        expected = float(getattr(metrics, name)(cube[None], truth[None])[0])
        assert getattr(result, name) == pytest.approx(expected, rel=FLOAT32)
    np.testing.assert_allclose(result.band_rmse, np.sqrt(np.mean((cube - truth) ** 2, axis=(0, 1))), rtol=FLOAT32)


def test_missing_values_are_ignored(cubes):
    cube, truth = cubes
    whole = compare(cube[:100], truth[:100])
    cube[100:], truth[0, 0, 2], cube[1, 1, 2] = np.nan, np.inf, np.nan
    result = compare(cube, truth)
    np.testing.assert_array_equal(np.delete(result.band_rmse, 2), np.delete(whole.band_rmse, 2))
    finite = np.isfinite(cube[..., 2]) & np.isfinite(truth[..., 2])
    expected = np.sqrt(np.mean((cube[finite, 2].astype(np.float64) - truth[finite, 2]) ** 2))
    assert result.band_rmse[2] == pytest.approx(expected)
    assert result.sam == pytest.approx(whole.sam, rel=0.01)


def test_nothing_to_compare_is_nan_and_no_error_is_infinite_psnr(cubes):
    cube, truth = cubes
    assert compare(truth, truth).psnr == np.inf
    assert np.isnan(compare(np.full_like(cube, np.nan), truth).rmse)
