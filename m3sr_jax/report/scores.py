"""Scores as a terminal table, a Markdown page and a JSON file, never without the protocol's terms."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from m3sr_jax.inference.evaluate import Report
from m3sr_jax.report.environment import environment

if TYPE_CHECKING:
    from rich.table import Table

# Metric → heading, digits, and whether more is better, in the order of the papers' tables.
COLUMNS = {
    "psnr": ("PSNR dB ↑", 2, True),
    "rmse": ("RMSE ↓", 4, False),
    "sam": ("SAM ° ↓", 2, False),
    "mssim": ("MSSIM ↑", 4, True),
    "mrae": ("MRAE ↓", 4, False),
}


def report_json(reports: Sequence[Report], *, model: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """Writes an evaluation as JSON text.

    Args:
        reports: the model's scores first, then those of the baselines on the same scenes under the same protocol.
        model: what the model is, in JSON types.
        dataset: what the scenes are, in JSON types.

    Returns:
        An object with "protocol" (its terms), "mean" and "scenes" (scores under lower-case names; null where one is
        infinite or undefined), "seconds_per_image", "baselines" (the same of each), "model", "dataset", "versions",
        "device" and "git_revision".
    """
    ours, *baselines = reports
    values = {
        "protocol": ours.protocol.terms() | {"description": ours.protocol.describe()},
        **_scores(ours),
        "baselines": {baseline.name: _scores(baseline) for baseline in baselines},
        "model": {"name": ours.name, **model},
        "dataset": dict(dataset),
        **environment(),
    }
    return json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _scores(report: Report) -> dict[str, Any]:
    scenes = {name: _finite(scores) for name, scores in report.scenes.items()}
    return {"mean": _finite(report.means), "scenes": scenes, "seconds_per_image": report.seconds_per_image}


def _finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def score_table(reports: Sequence[Report]) -> Table:
    """Lays the means out for the terminal, the best of each column in bold, the protocol's terms below."""
    from rich import box
    from rich.table import Table

    heading = f"Mean over {len(reports[0].scenes)} scenes"
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.caption = f"Protocol {reports[0].protocol.describe()}"
    table.add_column("", no_wrap=True)
    for column, _, _ in COLUMNS.values():
        table.add_column(column, justify="right")
    for row in _mean_rows(reports, "[bold]{}[/bold]"):
        table.add_row(*row)
    return table


def report_markdown(reports: Sequence[Report], *, dataset: str, figure: str = "") -> str:
    """Writes an evaluation as a Markdown page: means beside the baselines, terms, the model's score on every scene.

    Args:
        reports: as for `report_json`.
        dataset: what the scenes are, for the title.
        figure: file name of a picture to show; none if empty.
    """
    ours = reports[0]
    lines = [f"# {title(ours.name)} on {dataset}", "", f"Mean over {len(ours.scenes)} held-out scenes.", ""]
    lines += [*_markdown_table("", _mean_rows(reports, "**{}**")), "", f"Protocol {ours.protocol.describe()}.", ""]
    if figure:
        lines += [f"![Reconstruction of a held-out scene]({figure})", ""]
    by_scene = [[scene, *_cells(scores)] for scene, scores in ours.scenes.items()]
    lines += ["## Every scene", "", *_markdown_table("scene", by_scene), ""]
    facts = environment()
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    device = f"{facts['device']['platform']} ({facts['device']['kind']})"
    speed = f"{ours.seconds_per_image:.3g} s an image on {device}"
    revision = f", revision {facts['git_revision']}" if facts["git_revision"] else ""
    return "\n".join([*lines, f"{speed}; {versions}{revision}.", ""])


def _mean_rows(reports: Sequence[Report], emphasis: str) -> list[list[str]]:
    means = [report.means for report in reports]
    rows = [[title(report.name), *_cells(report.means)] for report in reports]
    for column, (metric, (_, _, more_is_better)) in enumerate(COLUMNS.items(), start=1):
        ranked = [mean[metric] * (-1 if more_is_better else 1) for mean in means]
        if len(rows) > 1 and not any(map(math.isnan, ranked)):
            best = rows[ranked.index(min(ranked))]
            best[column] = emphasis.format(best[column])
    return rows


def _cells(scores: Mapping[str, float]) -> list[str]:
    return [f"{scores[metric]:.{digits}f}" for metric, (_, digits, _) in COLUMNS.items()]


def title(name: str) -> str:
    """A method's name as people read it."""
    linear, quadratic = "linear least squares", "quadratic least squares"
    return {"m3sr": "M3SR", "least_squares_linear": linear, "least_squares_quadratic": quadratic}.get(name, name)


def _markdown_table(corner: str, rows: Sequence[Sequence[str]]) -> list[str]:
    headings = [corner, *(heading for heading, _, _ in COLUMNS.values())]
    rule = ["---", *["---:"] * len(COLUMNS)]
    return ["| " + " | ".join(row) + " |" for row in (headings, rule, *rows)]
