"""Evaluation of methods on held-out scenes: predicts and scores one scene at a time, beside least-squares fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32

from m3sr_jax.data.scenes import Dataset, Scene, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.protocols import METRICS, Protocol, band_rmse, evaluate_pair
from m3sr_jax.processes import gather, local_indices
from m3sr_jax.regression import best_of, sums

Predict = Callable[[Float32[np.ndarray, "H W 3"]], Float[np.ndarray, "H W S"]]
Progress = Callable[[int, int], None]
Observe = Callable[[Scene, Mapping[str, np.ndarray]], None]
LEAST_SQUARES = "least_squares_"  # begins the names of these methods
# Least squares determines at most 20 numbers per band: more pixels change no digit, and a pass over all of NTIRE 2022
# would take minutes.
MAX_FITTED_PIXELS = 8_000_000


@dataclass(frozen=True)
class Report:
    """The scores of one method.

    Attributes:
        name: the method, such as a network's name or "least_squares_linear".
        protocol: the terms of the scores.
        scenes: scene name → metric name → score.
        seconds_per_image: median time of a prediction, compilation excluded; None if nothing was predicted.
        band_rmse: RMSE of each band over the protocol's region, averaged over the scenes.
    """

    name: str
    protocol: Protocol
    scenes: dict[str, dict[str, float]]
    seconds_per_image: float | None
    band_rmse: tuple[float, ...] = field(default=())

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
    """Predicts and scores every scene with one method; see `evaluate_all`."""
    return evaluate_all({name: predict_fn}, scenes, protocol, progress)[0]


def evaluate_all(
    methods: Mapping[str, Predict],
    scenes: SceneSource,
    protocol: Protocol,
    progress: Progress | None = None,
    *,
    observe: Observe | None = None,
) -> list[Report]:
    """Predicts and scores every scene with every method.

    Memory does not grow with the number of scenes: each is read, predicted, scored and dropped. Each of n processes
    takes every n-th scene, and all return the reports of all scenes.

    Args:
        methods: name → RGB (H, W, 3) in [0, 1] → cube (H, W, S).
        scenes: photos and true cubes.
        protocol: the terms; see `m3sr_jax.evaluation.protocols`.
        progress: called with (scenes done, scenes in total), counting this process's own, after each.
        observe: called with each scene and every method's cube, to save or draw them.

    Returns:
        One report per method, in their order.

    Raises:
        InputError: there are no scenes, a predicted cube has another shape than the true one, or the protocol's
            crop leaves too little of a scene.
    """
    if len(scenes) == 0:
        raise InputError("no scenes to evaluate on; expected at least one held-out scene")
    mine = local_indices(len(scenes))

    def score_mine() -> dict[int, dict[str, _SceneScores]]:
        # The first prediction of a size compiles and is not timed. If no size repeats, the first scene is done twice.
        rows, compiled, sizes = {}, set(), [scenes.size(i) for i in mine]
        for done, (i, size) in enumerate(zip(mine, sizes, strict=True), 1):
            scene = scenes[i]
            if done == 1 and len(set(sizes)) == len(sizes):
                for predict_fn in methods.values():
                    np.asarray(predict_fn(scene.rgb))
                compiled.add(size)
            rows[i] = _score_scene(methods, scene, protocol, observe, timed=size in compiled)
            compiled.add(size)
            if progress is not None:
                progress(done, len(mine))
        return rows

    parts = gather(score_mine)
    rows = {i: row for part in parts for i, row in part.items()}
    return [_report(name, protocol, [rows[i][name] for i in range(len(scenes))]) for name in methods]


@dataclass(frozen=True)
class _SceneScores:
    """The scores of one method on one scene; `seconds` is nan where it would include compilation."""

    scene: str
    scores: dict[str, float]
    bands: np.ndarray
    seconds: float


def _score_scene(
    methods: Mapping[str, Predict], scene: Scene, protocol: Protocol, observe: Observe | None, *, timed: bool
) -> dict[str, _SceneScores]:
    cubes, row = {}, {}
    for name, predict_fn in methods.items():
        start = time.perf_counter()
        cube = cubes[name] = np.asarray(predict_fn(scene.rgb))
        seconds = time.perf_counter() - start if timed else math.nan
        if cube.shape != scene.cube.shape:
            raise InputError(f"scene {scene.name}: {name} predicted {cube.shape}, expected {scene.cube.shape}")
        scores, bands = evaluate_pair(protocol, cube, scene.cube), band_rmse(protocol, cube, scene.cube)
        row[name] = _SceneScores(scene.name, scores, bands, seconds)
    if observe is not None:
        observe(scene, cubes)
    return row


def _report(name: str, protocol: Protocol, rows: list[_SceneScores]) -> Report:
    scores = {row.scene: row.scores for row in rows}
    bands = tuple(np.mean([row.bands for row in rows], axis=0).tolist())
    return Report(name, protocol, scores, float(np.nanmedian([row.seconds for row in rows])), bands)


def fit_baselines(dataset: Dataset) -> dict[str, Predict]:
    """Fits RGB → spectrum on the training scenes: the scores that a model has to beat.

    The linear and the quadratic fit, and of all `m3sr_jax.regression.REGRESSIONS` the best in cross-validation over the
    training scenes; the held-out scenes do not influence the choice. Up to `MAX_FITTED_PIXELS` in total, every pixel is
    used; beyond that, every k-th pixel of every k-th row.

    Returns:
        "least_squares_" and the regression's name → its predictions; two or three of them, none without training
        scenes.

    Raises:
        InputError: no training scene is readable, or a value in them is not finite.
    """
    train = dataset.train
    if not len(train):
        return {}
    pixels = sum(math.prod(train.size(i)) for i in range(len(train)))
    step = max(1, math.ceil(math.sqrt(pixels / MAX_FITTED_PIXELS)))
    parts = [sums(scene.rgb, scene.cube) for scene in _thinned(train, step, dataset.skip_bad_scenes)]
    if not parts:
        raise InputError("least-squares fits: found no scenes, expected at least one training scene")
    total = sum(parts[1:], parts[0])
    names = dict.fromkeys(("linear", "quadratic", best_of(parts)))
    return {f"{LEAST_SQUARES}{name}": total.fit(name).predict for name in names}


def _thinned(source: SceneSource, step: int, skip_bad_scenes: bool) -> Iterator[Scene]:
    every = slice(None, None, step)
    for i in range(len(source)):
        try:
            scene = source.coded_window(i, 0, 0, *source.size(i))
        except InputError:
            if skip_bad_scenes:
                continue
            raise
        yield scene.region(every, every).decoded(source.wavelengths)
