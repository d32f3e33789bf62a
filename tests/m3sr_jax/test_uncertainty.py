"""Intervals hold the promised share of errors, of pixels and of folds that the calibration has not seen."""

import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.uncertainty import CUBE, EXACT_COLOUR, TERMS, Interval, calibrated

COVERAGE = 0.9
# Four standard deviations of the share among this many independent pixels, and the fit of ten coefficients.
TOLERANCE = 0.015
PIXELS = 8000


def pixels(seed, spread=1.0):
    """Colours, and errors in two bands that grow with brightness and with red, as photos' do."""
    rng = np.random.default_rng(seed)
    light = rng.random((PIXELS, 3)) * rng.random((PIXELS, 1))
    size = spread * (0.01 + light.mean(1, keepdims=True)) * np.exp(light[:, :1] / light.sum(1, keepdims=True))
    return light, (size * rng.standard_normal((PIXELS, 2)) * [0.1, 0.3]).astype(np.float32)


@pytest.fixture(scope="module")
def interval():
    weights = calibrated([pixels(seed) for seed in range(3)], COVERAGE)
    return Interval(COVERAGE, weights, weights + np.eye(TERMS, 1, dtype=np.float32))  # e times as wide


def test_the_promised_share_of_unseen_errors_lies_inside(interval):
    light, errors = pixels(9)
    inside = np.abs(errors) <= interval.half_widths(light.astype(np.float32))
    assert inside.mean(0) == pytest.approx(COVERAGE, abs=TOLERANCE)
    # In dark and bright pixels alike: intervals are no wider than they need to be.
    order = np.argsort(light.mean(1))
    for part in np.array_split(inside[order], 3):
        assert part.mean() == pytest.approx(COVERAGE, abs=2 * TOLERANCE)


def test_folds_that_differ_widen_the_intervals():
    """What counts are errors that the regression has not seen: of four folds, one has three times the errors."""
    folds = [pixels(seed, 3.0 if seed == 3 else 1.0) for seed in range(4)]
    weights = calibrated(folds, COVERAGE)
    light, errors = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    inside = np.abs(errors) <= Interval(COVERAGE, weights, weights).half_widths(light)
    assert inside.mean() > COVERAGE - TOLERANCE


def test_half_widths_of_any_colour_are_positive_and_finite(interval):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [-0.001, 0, 0]], np.float32)
    widths = interval.half_widths(corners.reshape(2, 3, 3))
    assert widths.shape == (2, 3, 2)
    assert widths.dtype == np.float32
    assert (widths > 0).all()
    assert np.isfinite(widths).all()
    exact = interval.half_widths(corners.reshape(2, 3, 3), exact_colour=True)
    np.testing.assert_allclose(exact, np.e * widths, rtol=1e-5)


def test_large_photos_are_computed_in_blocks(interval, monkeypatch):
    light = np.random.default_rng(0).random((50, 20, 3), np.float32)
    whole = interval.half_widths(light)
    monkeypatch.setattr("m3sr_jax.uncertainty.BLOCK_PIXELS", 64)
    np.testing.assert_allclose(interval.half_widths(light), whole, rtol=1e-6)


def test_arrays_come_back_and_others_are_refused(interval):
    arrays = interval.arrays()
    back = Interval.from_arrays(COVERAGE, arrays, 2)
    np.testing.assert_array_equal(back.cube, interval.cube)
    with pytest.raises(InputError, match=rf"{CUBE}: found an array of shape \(10, 2\); expected \({TERMS}, 31\)"):
        Interval.from_arrays(COVERAGE, arrays, 31)
    with pytest.raises(InputError, match=EXACT_COLOUR):
        Interval.from_arrays(COVERAGE, {CUBE: interval.cube}, 2)
