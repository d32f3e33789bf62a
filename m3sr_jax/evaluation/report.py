"""The files of a report: scores beside least squares as JSON, Markdown, CSV and LaTeX, and a picture of one scene."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.data.scenes import Dataset, Scene, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.evaluate import Predict, Report, evaluate_all, fit_baselines
from m3sr_jax.evaluation.figures import Estimate, reconstruction_figure
from m3sr_jax.evaluation.metrics import psnr, sam
from m3sr_jax.evaluation.protocols import Protocol
from m3sr_jax.evaluation.published import Published, published_rows
from m3sr_jax.evaluation.tables import display_name, report_csv, report_json, report_latex, report_markdown
from m3sr_jax.io.files import write_text
from m3sr_jax.model_card import ModelCard
from m3sr_jax.networks import NETWORKS
from m3sr_jax.processes import on_writer

FIGURE = "reconstruction.png"
BASELINE = "least_squares_quadratic"


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """Returns what a report states about its scenes."""
    valid = dataset.valid
    return {
        "name": dataset.name,
        "train_scenes": len(dataset.train),
        "valid_scenes": len(valid),
        "missing": len(dataset.missing),
        "wavelengths": valid.wavelengths.tolist(),
        "camera": valid.camera_name,
        "rgb_normalization": valid.rgb_normalization,
        "fingerprint": valid.fingerprint(),
        "notes": list(dataset.notes),
    }


def model_facts(card: ModelCard) -> dict[str, Any]:
    """Returns what a report states about its model: the network's fields and the rest of the card."""
    facts, network = dataclasses.asdict(card), NETWORKS.get(card.model.name)
    note = {"note": network.note} if network and network.note else {}
    return facts.pop("model") | note | facts


def write_report(
    directory: str | os.PathLike[str],
    predict_fn: Predict,
    dataset: Dataset,
    protocol: Protocol,
    *,
    name: str = "m3sr",
    model: Mapping[str, Any] | None = None,
) -> list[Report]:
    """Evaluates a method; writes DIR/report.json, .md, .csv, .tex and DIR/reconstruction.png, each whole or not at all.

    The picture comes last, and shows the held-out scene of median PSNR (the lower of two).

    Args:
        directory: created if missing; an earlier report in it is replaced.
        predict_fn: RGB (H, W, 3) in [0, 1] → cube (H, W, S).
        dataset: scenes for the least-squares fits and for scoring.
        protocol: the terms.
        name: the report's name for the model.
        model: description of the model in JSON types, for report.json; see `model_facts`.

    Returns:
        The reports of the model and of the fits of `fit_baselines`.

    Raises:
        InputError: the folder cannot be written; see also `evaluate` and `fit_baselines`.
    """
    directory, methods = Path(directory), {name: predict_fn} | fit_baselines(dataset)
    try:
        on_writer(lambda: directory.mkdir(parents=True, exist_ok=True))
        reports = evaluate_all(methods, dataset.valid, protocol)
        tables: dict[str, Any] = {"dataset": dataset_facts(dataset), "model": model or {}, "figure": FIGURE}
        tables["published"] = published_rows(dataset.name, model)
        on_writer(lambda: write_tables(directory / "report.json", reports, **tables))
        on_writer(lambda: _write_median_figure(directory / FIGURE, methods, dataset.valid, reports[0]))
    except OSError as error:
        raise InputError(f"{directory}: the report cannot be written there ({error.strerror or error})") from error
    return reports


def write_tables(
    path: Path,
    reports: list[Report],
    *,
    dataset: Mapping[str, Any],
    model: Mapping[str, Any],
    figure: str = "",
    published: Sequence[Published] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes an evaluation to PATH (JSON), and to .md, .csv and .tex files of the same stem beside it.

    Args:
        path: the JSON file.
        reports: the model's scores first.
        dataset: description of the scenes that were scored; see `dataset_facts`.
        model: description of the model; see `model_facts`.
        figure: file name of a picture for the Markdown page.
        published: published rows on the same data set; see `published_rows`.
        extra: further keys of the JSON file.

    Raises:
        InputError: a file cannot be written.
    """
    files = {
        path.with_suffix(".md"): report_markdown(reports, dataset=dataset, figure=figure, published=published),
        path.with_suffix(".csv"): report_csv(reports, published),
        path.with_suffix(".tex"): report_latex(reports, published),
        # Last, so that the JSON file exists only beside the others.
        path: report_json(reports, model=model, dataset=dataset, published=published, extra=extra),
    }
    for file, text in files.items():
        try:
            write_text(file, text)
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror or error})") from error


def _write_median_figure(path: Path, methods: Mapping[str, Predict], scenes: SceneSource, report: Report) -> None:
    ranked = sorted(report.scenes, key=lambda name: report.scenes[name]["psnr"])
    shown = ranked[(len(ranked) - 1) // 2]
    scene = scenes[list(report.scenes).index(shown)]
    drawn = [name for name in (report.name, BASELINE) if name in methods]
    cubes = {name: np.asarray(methods[name](scene.rgb), np.float32) for name in drawn}
    write_figure(path, scene, cubes, report.name)


def write_figure(
    path: Path, scene: Scene, cubes: Mapping[str, np.ndarray], name: str, pixels: Sequence[tuple[int, int]] = ()
) -> None:
    """Draws one scene: a method's cube, the truth and, if given, quadratic least squares.

    See `reconstruction_figure`.

    Args:
        path: the picture.
        scene: photo and truth.
        cubes: method name → cube.
        name: the method to draw.
        pixels: whose spectra to show; by default four of different colours.
    """
    drawn = {
        key: Estimate(display_name(key), np.asarray(cubes[key], np.float32)) for key in (name, BASELINE) if key in cubes
    }
    estimate, baseline = drawn[name], drawn.get(BASELINE)
    both = estimate.cube[None], scene.cube[None]
    scores = f"PSNR {float(psnr(*both)[0]):.2f} dB, SAM {float(sam(*both)[0]):.2f}°"
    heading = f"{scene.name.replace('_', ' ')}, held out, full frame: {scores}"
    reconstruction_figure(scene, estimate, path, baseline=baseline, title=heading, pixels=pixels)
