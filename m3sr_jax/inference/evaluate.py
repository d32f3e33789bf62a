"""Scores of a reconstruction method on a set of scenes, one scene in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from m3sr_jax.data.scenes import Dataset, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.least_squares import LeastSquares
from m3sr_jax.protocols import METRICS, Protocol, evaluate_pair

Predict = Callable[[Float32[np.ndarray, "H W 3"]], Float[np.ndarray, "H W S"]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """How one method did.

    Attributes:
        name: the method: a network's name, or "least_squares_linear".
        protocol: the terms of the scores.
        scenes: scene name → metric name → score.
        seconds_per_image: median time of a prediction. Compilation falls on the first image of a size.
    """

    name: str
    protocol: Protocol
    scenes: dict[str, dict[str, float]]
    seconds_per_image: float

    @property
    def means(self) -> dict[str, float]:
        """Metric name → mean over the scenes."""
        return {metric: float(np.mean([scores[metric] for scores in self.scenes.values()])) for metric in METRICS}


def evaluate(
    predict_fn: Predict,
    scenes: SceneSource,
    protocol: Protocol,
    progress: Progress | None = None,
    *,
    name: str = "m3sr",
) -> Report:
    """Predicts and scores every scene.

    Memory does not grow with the number of scenes: each is read, predicted, scored and dropped.

    Args:
        predict_fn: RGB (H, W, 3) in [0, 1] → cube (H, W, S).
        scenes: where truth and photos come from.
        protocol: the terms; see `m3sr_jax.protocols`.
        progress: called with (scenes done, scenes in all) after each.
        name: what the report calls the method.

    Raises:
        InputError: If there are no scenes, a predicted cube's shape is not the truth's, or the protocol's crop leaves
            too little of a scene.
    """
    if len(scenes) == 0:
        raise InputError("no scenes to evaluate on; expected at least one held-out scene")
    scores: dict[str, dict[str, float]] = {}
    seconds = []
    for i in range(len(scenes)):
        scene = scenes[i]
        start = time.perf_counter()
        prediction = np.asarray(predict_fn(scene.rgb))
        seconds.append(time.perf_counter() - start)
        if prediction.shape != scene.cube.shape:
            raise InputError(f"scene {scene.name}: {name} gave {prediction.shape}, the true cube is {scene.cube.shape}")
        scores[scene.name] = evaluate_pair(protocol, prediction, scene.cube)
        if progress is not None:
            progress(i + 1, len(scenes))
    return Report(name, protocol, scores, float(np.median(seconds)))


def fit_baselines(dataset: Dataset) -> dict[str, Predict]:
    """Fits RGB → spectrum on the training scenes, linear and quadratic: what a model has to beat."""
    train = dataset.train
    fits = [LeastSquares.fit((train[i] for i in range(len(train))), degree) for degree in (1, 2)]
    return {fit.name: fit.predict for fit in fits}
