"""Scores on the held-out scenes: the model in training, and the least-squares fits it has to beat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from m3sr_jax.data.scenes import Dataset
from m3sr_jax.evaluation.evaluate import Predict, evaluate, fit_baselines
from m3sr_jax.evaluation.protocols import get_protocol
from m3sr_jax.training.step import eval_step

# The linear fit has the plain name, which metrics.jsonl promises.
_BASELINE_NAMES = {"least_squares_linear": "least_squares"}


class Validation:
    """Scores methods under the data set's own protocol; the model is compiled once."""

    def __init__(self, model: nn.Module, dataset: Dataset) -> None:
        self.protocol = get_protocol(dataset.name)
        self._dataset = dataset
        self._eval_step = jax.jit(partial(eval_step, model))

    def predictor(self, params: Any, before_scene: Callable[[], None] = lambda: None) -> Predict:
        """Returns RGB (H, W, 3) → cube (H, W, S); `before_scene` may raise to stop the evaluation."""

        def predict(rgb: np.ndarray) -> np.ndarray:
            before_scene()
            return np.asarray(self._eval_step(params, rgb[None])[0])

        return predict

    def score(self, predict: Predict) -> dict[str, float]:
        """Returns metric name → mean over the held-out scenes."""
        return evaluate(predict, self._dataset.valid, self.protocol).means

    def score_baselines(self) -> dict[str, float]:
        """Scores the fits of `fit_baselines`; returns 'FIT/METRIC' → mean score."""
        means = {name: self.score(predict) for name, predict in fit_baselines(self._dataset).items()}
        return {
            f"{_BASELINE_NAMES.get(name, name)}/{metric}": value
            for name, scores in means.items()
            for metric, value in scores.items()
        }
