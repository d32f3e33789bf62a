"""Bootstrap intervals of a mean."""

import math

import numpy as np

from m3sr_jax.evaluation.intervals import bootstrap_interval

# Percentiles of 10,000 resampled means vary by about this fraction of the interval's width.
SCATTER = 0.03


def test_the_interval_of_many_normal_scores_is_the_textbook_one():
    scores = np.random.default_rng(0).normal(30, 2, 400)
    low, high = bootstrap_interval(scores.tolist())
    half = 1.96 * scores.std() / math.sqrt(len(scores))
    np.testing.assert_allclose([low, high], [scores.mean() - half, scores.mean() + half], atol=SCATTER * 2 * half)
    assert bootstrap_interval(scores.tolist()) == (low, high)


def test_too_few_or_infinite_scores_have_no_interval():
    assert bootstrap_interval([3.0]) is None
    assert bootstrap_interval([3.0, math.inf]) is None
    assert bootstrap_interval([3.0, 3.0]) == (3.0, 3.0)
