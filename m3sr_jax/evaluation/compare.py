"""Comparison of evaluations: several methods on the same scenes, paired scene by scene."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.intervals import bootstrap_interval
from m3sr_jax.evaluation.tables import COLUMNS, add_row, metric_cells, metric_table
from m3sr_jax.io.files import reading

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Evaluation:
    """The parts of a report of `m3sr evaluate` that comparisons need.

    Attributes:
        label: file name without its suffix.
        protocol: terms of the scores.
        scenes: scene name → metric name → score, None where it is not finite.
        dataset: description of the scenes; see `m3sr_jax.evaluation.report.dataset_facts`.
    """

    label: str
    protocol: Mapping[str, Any]
    scenes: Mapping[str, Mapping[str, float | None]]
    dataset: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One metric of one evaluation compared with the first, scene by scene.

    Attributes:
        metric: its name.
        mean: mean over the scenes of (this − first).
        interval: 95 % bootstrap interval of that mean, None for fewer than two scenes.
        p_value: two-sided Wilcoxon signed-rank test of no difference, None where it is undefined.
        better: number of scenes on which this evaluation is better.
        scenes: number of scenes compared.
    """

    metric: str
    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    better: int
    scenes: int


def read_evaluation(path: Path) -> Evaluation:
    """Reads a report of `m3sr evaluate`.

    Raises:
        InputError: the file does not exist or is no such report.
    """
    with reading(path, "a report of m3sr evaluate"):
        values = json.loads(path.read_text(encoding="utf-8"))
        scenes = {name: _known_scores(scores) for name, scores in values["scenes"].items()}
        protocol = dict(values["protocol"])
        if "epsilon" in protocol:  # mrae_floor in earlier reports
            protocol["mrae_floor"] = protocol.pop("epsilon")
        return Evaluation(path.stem, protocol, scenes, dict(values.get("dataset") or {}))


def _known_scores(scores: Mapping[str, Any]) -> dict[str, float | None]:
    # Reports of earlier versions have no sam_bright.
    known = {metric: scores.get(metric) if metric == "sam_bright" else scores[metric] for metric in COLUMNS}
    for metric, score in known.items():
        if not isinstance(score, float | int | None):
            raise ValueError(f"{metric}: found {json.dumps(score)[:40]}, expected a number or null")
    return {metric: score if score is not None and math.isfinite(score) else None for metric, score in known.items()}


def check_comparable(evaluations: Sequence[Evaluation]) -> list[str]:
    """Returns the scenes that all evaluations share.

    Raises:
        InputError: the protocols differ, or no scene is shared.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        keys = dict.fromkeys([*first.protocol, *other.protocol])
        pairs = {key: (first.protocol.get(key), other.protocol.get(key)) for key in keys if key != "description"}
        terms = [f"{key} {ours} and {theirs}" for key, (ours, theirs) in pairs.items() if ours != theirs]
        if terms:
            found = ", ".join(terms[:3])
            raise InputError(
                f"{first.label} and {other.label}: scored under different protocols ({found}); re-evaluate one of them"
            )
    shared = [name for name in first.scenes if all(name in other.scenes for other in evaluations)]
    if not shared:
        raise InputError(f"{', '.join(e.label for e in evaluations)}: no scene in common, so nothing to compare")
    return shared


def data_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Says which evaluations were scored on other data than the first, by the data set's name or fingerprint."""
    first, notes = evaluations[0], []
    for other in evaluations[1:]:
        for key in ("name", "fingerprint"):
            ours, theirs = first.dataset.get(key), other.dataset.get(key)
            if ours and theirs and ours != theirs:
                notes.append(f"{first.label} was scored on {ours}, {other.label} on {theirs}")
                break
    return notes


def differences(first: Evaluation, other: Evaluation, scenes: Sequence[str]) -> list[Difference]:
    """Compares two evaluations on the same scenes, metric by metric.

    Source: F. Wilcoxon, "Individual Comparisons by Ranking Methods", 1945, as scipy.stats.wilcoxon computes it.
    """
    found = []
    for metric, (_, _, higher_is_better) in COLUMNS.items():
        pairs = [(first.scenes[name][metric], other.scenes[name][metric]) for name in scenes]
        gaps = np.array([theirs - ours for ours, theirs in pairs if ours is not None and theirs is not None])
        if len(gaps):
            better = int((gaps > 0).sum() if higher_is_better else (gaps < 0).sum())
            interval = bootstrap_interval(gaps.tolist())
            found.append(Difference(metric, float(gaps.mean()), interval, _wilcoxon(gaps), better, len(gaps)))
    return found


def _wilcoxon(gaps: np.ndarray) -> float | None:
    from scipy.stats import wilcoxon

    if len(gaps) < 2 or not gaps.any():
        return None
    return float(wilcoxon(gaps)[1])  # type: ignore[arg-type]


def mean_rows(evaluations: Sequence[Evaluation], scenes: Sequence[str]) -> list[list[str]]:
    """Formats one row per evaluation: label and means over the scenes."""
    rows = []
    for evaluation in evaluations:
        means: dict[str, float | None] = {}
        for metric in COLUMNS:
            finite = [score for name in scenes if (score := evaluation.scenes[name][metric]) is not None]
            means[metric] = float(np.mean(finite)) if len(finite) == len(scenes) else None
        rows.append([evaluation.label, *metric_cells(means)])
    return rows


def difference_rows(label: str, found: Sequence[Difference]) -> list[list[str]]:
    """Formats one row per metric: label, metric, mean difference, interval, p, and the number of scenes won."""
    rows = []
    for difference in found:
        digits = COLUMNS[difference.metric][1] + 1
        interval = difference.interval
        ends = f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if interval else "–"
        p_value = "–" if difference.p_value is None else f"{difference.p_value:.2g}"
        better = f"{difference.better} of {difference.scenes}"
        rows.append([label, difference.metric, f"{difference.mean:+.{digits}f}", ends, p_value, better])
    return rows


def comparison_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Lays out two terminal tables: the means of all evaluations, and the differences of each from the first.

    Raises:
        InputError: see `check_comparable`.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    scenes, first = check_comparable(evaluations), evaluations[0]
    style: Any = {"box": box.SIMPLE_HEAD, "title_justify": "left", "caption_justify": "left"}
    means = metric_table(f"Mean over {len(scenes)} shared scenes", f"Protocol {_terms(first)}")
    for row in mean_rows(evaluations, scenes):
        add_row(means, row)
    note = "95 % bootstrap intervals; p: two-sided Wilcoxon signed-rank test, not corrected for multiple comparisons"
    paired = Table(title=escape(f"Difference from {first.label}, scene by scene"), caption=note, **style)
    for heading in ("", "metric", "mean", "95 % interval", "p", "better on"):
        paired.add_column(heading, no_wrap=heading != "", overflow="fold")
    for other in evaluations[1:]:
        for row in difference_rows(other.label, differences(first, other, scenes)):
            add_row(paired, row, end_section=row[1] == list(COLUMNS)[-1])
    return [means, paired]


def _terms(evaluation: Evaluation) -> str:
    return str(evaluation.protocol.get("description", evaluation.protocol.get("name", "")))
