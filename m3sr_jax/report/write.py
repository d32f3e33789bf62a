"""A run's report folder: scores beside least squares as JSON and Markdown, and the picture of one reconstruction."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.checkpoint import ModelCard, write_text
from m3sr_jax.data.scenes import Dataset, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.inference.evaluate import Predict, Report, evaluate, fit_baselines
from m3sr_jax.protocols import Protocol
from m3sr_jax.report.figures import Estimate, reconstruction_figure
from m3sr_jax.report.scores import report_json, report_markdown, title

FIGURE = "reconstruction.png"
BASELINE = "least_squares_quadratic"


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What a report says of its scenes."""
    valid = dataset.valid
    return {
        "name": dataset.name,
        "train_scenes": len(dataset.train),
        "valid_scenes": len(valid),
        "camera": valid.camera_name,
        "rgb_normalization": valid.rgb_normalization,
        "fingerprint": valid.fingerprint(),
    }


def model_facts(card: ModelCard) -> dict[str, Any]:
    """What a report says of its model: the network's fields beside the rest of the card."""
    facts = dataclasses.asdict(card)
    return facts.pop("model") | facts


def write_report(
    directory: str | os.PathLike[str],
    predict_fn: Predict,
    dataset: Dataset,
    protocol: Protocol,
    *,
    name: str = "m3sr",
    model: Mapping[str, Any] | None = None,
) -> list[Report]:
    """Writes DIR/report.json, DIR/report.md and DIR/reconstruction.png, each whole or not at all.

    The picture shows the held-out scene of median PSNR (the lower of two): neither the best nor the worst.

    Args:
        directory: made if missing; an earlier report in it is replaced.
        predict_fn: RGB (H, W, 3) in [0, 1] → cube (H, W, S).
        dataset: scenes to fit least squares on and to score on.
        protocol: the terms.
        name: what the report calls the model.
        model: what the model is, in JSON types, for report.json; see `model_facts`.

    Returns:
        The reports of the model and of the linear and the quadratic least-squares fit.

    Raises:
        InputError: If the folder cannot be written, or as `evaluate` and `LeastSquares.fit`.
    """
    directory, methods = Path(directory), {name: predict_fn} | fit_baselines(dataset)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reports = [evaluate(method, dataset.valid, protocol, name=label) for label, method in methods.items()]
        _write_figure(directory / FIGURE, methods, dataset.valid, reports[0])
        write_text(directory / "report.md", report_markdown(reports, dataset=dataset.name, figure=FIGURE))
        # Last: whoever finds report.json finds the rest.
        write_text(directory / "report.json", report_json(reports, model=model or {}, dataset=dataset_facts(dataset)))
    except OSError as error:
        raise InputError(f"{directory}: the report cannot be written there ({error})") from error
    return reports


def _write_figure(path: Path, methods: Mapping[str, Predict], scenes: SceneSource, report: Report) -> None:
    ranked = sorted(report.scenes, key=lambda name: report.scenes[name]["psnr"])
    shown = ranked[(len(ranked) - 1) // 2]
    scene, scores = scenes[list(report.scenes).index(shown)], report.scenes[shown]
    estimate, baseline = (
        Estimate(title(name), np.asarray(methods[name](scene.rgb), np.float32)) for name in (report.name, BASELINE)
    )
    heading = f"{shown.replace('_', ' ')}, held out: PSNR {scores['psnr']:.2f} dB, SAM {scores['sam']:.2f}°"
    reconstruction_figure(scene, estimate, path, baseline=baseline, title=heading)
