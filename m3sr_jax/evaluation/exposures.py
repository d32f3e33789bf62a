"""Scores of methods on photos of other exposures: they reveal a method that works at one exposure alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from m3sr_jax.data.augmentation import check_exposure, exposed
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.evaluate import Predict, Report, evaluate_all
from m3sr_jax.evaluation.protocols import Protocol
from m3sr_jax.evaluation.tables import add_row, display_name, finite, metric_cells, metric_table

if TYPE_CHECKING:
    from rich.table import Table

MAX_EXPOSURE = 256.0
ExposureReports = Mapping[float, Sequence[Report]]


def check_exposures(exposures: Sequence[float], dataset: Dataset) -> None:
    """Refuses exposures that cannot be scored.

    Raises:
        InputError: one is not between 1/256 and 256, or the photos are normalised in a way that undoes exposures.
    """
    for exposure in exposures:
        if not 1 / MAX_EXPOSURE <= exposure <= MAX_EXPOSURE:
            raise InputError(f"--exposures: found {exposure:g}, expected numbers from 1/256 to 256")
    if exposures:
        check_exposure("--exposures", dataset.name, dataset.valid)


def evaluate_exposures(
    methods: Mapping[str, Predict], dataset: Dataset, protocol: Protocol, exposures: Sequence[float]
) -> dict[float, list[Report]]:
    """Scores methods on the held-out scenes with their photos at other exposures.

    A photo is taken, clipped and rounded again where a camera renders the data set's photos; elsewhere its codes are
    scaled, clipped and rounded. Predictions are divided by the exposure, and scored against the scene's cube.

    Args:
        methods: name → RGB (H, W, 3) in [0, 1] → cube (H, W, S).
        dataset: the scenes.
        protocol: the terms.
        exposures: factors of the light.

    Returns:
        Exposure → one report per method.
    """
    return {exposure: _evaluate(methods, dataset.valid, protocol, exposure) for exposure in exposures}


def _evaluate(methods: Mapping[str, Predict], source: SceneSource, protocol: Protocol, exposure: float) -> list[Report]:
    def undone(predict: Predict) -> Predict:
        return lambda rgb: np.asarray(predict(rgb)) / np.float32(exposure)

    return evaluate_all({name: undone(predict) for name, predict in methods.items()}, _at(source, exposure), protocol)


def _at(source: SceneSource, exposure: float) -> SceneSource:
    """Returns the same scenes with photos of another exposure; at 1 the photos as they are."""

    def read(index: int) -> CodedScene:
        scene = source.coded_window(index, 0, 0, *source.size(index))
        if exposure == 1:
            return scene
        changed, _ = exposed(scene, exposure, source.take, np.random.default_rng(index))
        return dataclasses.replace(scene, rgb=changed.rgb)

    return SceneSource(
        source.names,
        [source.size(index) for index in range(len(source))],
        read,
        wavelengths=source.wavelengths,
        camera_name=source.camera_name,
        fingerprint=f"{source.fingerprint()} ×{exposure:g}",
        rgb_normalization=source.rgb_normalization,
        cache_bytes=0,
    )


def exposure_means(reports: ExposureReports) -> dict[str, dict[str, dict[str, float | None]]]:
    """Returns exposure → method → metric → mean in JSON types: None where it is not finite."""
    return {
        f"{exposure:g}": {report.name: finite(report.means) for report in methods}
        for exposure, methods in reports.items()
    }


def exposure_rows(reports: ExposureReports) -> list[list[str]]:
    """Formats one row per method and exposure: name, exposure, means."""
    order = range(len(next(iter(reports.values()))))
    rows = []
    for method in order:
        for exposure, methods in reports.items():
            report = methods[method]
            rows.append([f"{display_name(report.name)}, ×{exposure:g}", *metric_cells(report.means)])
    return rows


def exposure_table(reports: ExposureReports) -> Table:
    """Lays out the means at every exposure for the terminal."""
    table = metric_table("Photos of other exposures")
    for place, row in enumerate(exposure_rows(reports), 1):
        add_row(table, row, end_section=place % len(reports) == 0)
    return table
