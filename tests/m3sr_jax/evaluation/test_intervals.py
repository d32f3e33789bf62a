"""Bootstrap intervals of a mean."""

import math
import tracemalloc

import numpy as np

from m3sr_jax.evaluation.intervals import RESAMPLES, SEED, bootstrap_interval

# Percentiles of 10,000 resampled means vary by about this fraction of the interval's width.
SCATTER = 0.03


def test_the_interval_of_many_normal_scores_is_the_textbook_one():
    scores = np.random.default_rng(0).normal(30, 2, 400)
    low, high = bootstrap_interval(scores.tolist())
    half = 1.96 * scores.std() / math.sqrt(len(scores))
    np.testing.assert_allclose([low, high], [scores.mean() - half, scores.mean() + half], atol=SCATTER * 2 * half)
    assert bootstrap_interval(scores.tolist()) == (low, high)


def test_blocks_draw_what_one_array_of_all_resamples_would():
    scores = np.random.default_rng(1).normal(30, 2, 401)
    draws = np.random.default_rng(SEED).integers(401, size=(RESAMPLES, 401))
    assert bootstrap_interval(scores.tolist()) == tuple(np.percentile(scores[draws].mean(axis=1), [2.5, 97.5]))


def test_memory_does_not_grow_with_the_resamples():
    tracemalloc.start()
    bootstrap_interval([0.5] * 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < RESAMPLES * 1000


def test_too_few_or_infinite_scores_have_no_interval():
    assert bootstrap_interval([3.0]) is None
    assert bootstrap_interval([3.0, math.inf]) is None
    assert bootstrap_interval([3.0, 3.0]) == (3.0, 3.0)
