"""The confidence interval of a mean over few scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
SEED = 0


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Computes a 95 % percentile bootstrap interval of the mean from 10,000 resamples of the scenes with a fixed seed.

    It says how much the mean would vary with other scenes of the same kind, not between training runs.

    Args:
        values: one score per scene.

    Returns:
        Lower and upper end; None for fewer than two scenes or if a score is not finite.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    scores = np.asarray(values, np.float64)
    if len(scores) < 2 or not np.isfinite(scores).all():
        return None
    draws = np.random.default_rng(SEED).integers(len(scores), size=(RESAMPLES, len(scores)))
    low, high = np.percentile(scores[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
