"""Scores as a terminal table, JSON, Markdown, LaTeX and CSV, always with the protocol's terms.

Published rows quote papers. They stand below the measured rows, are marked as published, and are never highlighted as
the best of a column.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from m3sr_jax.environment import environment, peak_memory
from m3sr_jax.evaluation.evaluate import LEAST_SQUARES, Report
from m3sr_jax.evaluation.intervals import bootstrap_interval
from m3sr_jax.evaluation.published import Published
from m3sr_jax.networks import NETWORKS
from m3sr_jax.regression import REGRESSIONS, WEIGHTED

if TYPE_CHECKING:
    from rich.table import Table

# Metric → heading, digits and whether higher is better, in the order of the papers' tables.
COLUMNS = {
    "psnr": ("PSNR dB ↑", 2, True),
    "rmse": ("RMSE ↓", 4, False),
    "sam": ("SAM ° ↓", 2, False),
    "sam_bright": ("bright SAM ° ↓", 2, False),
    "mssim": ("MSSIM ↑", 4, True),
    "mrae": ("MRAE ↓", 4, False),
}
PUBLISHED_NOTE = "Published rows are the papers' own figures under their own protocols, not measured here."
INTERVAL_NOTE = "Intervals: 95 % bootstrap over the scenes. Bright SAM: pixels above 5 % of white."
FITS_NOTE = (
    f"Least squares: linear, quadratic and the best of {len(REGRESSIONS)} fits by PSNR in cross-validation over the "
    "training scenes."
)
MIB = 2**20
_LATEX = str.maketrans(
    {special: f"\\{special}" for special in "&%#${}_"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "–": "--"}
)


def report_json(
    reports: Sequence[Report],
    *,
    model: Mapping[str, Any],
    dataset: Mapping[str, Any],
    published: Sequence[Published] = (),
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Formats an evaluation as JSON.

    Args:
        reports: the model's scores, then those of the baselines on the same scenes under the same protocol.
        model: description of the model in JSON types.
        dataset: description of the scenes in JSON types.
        published: published rows to store as well.
        extra: further keys, such as "exposures".

    Returns:
        An object with "protocol" (its terms), "mean", "interval_95" (lower and upper end for each mean, or null) and
        "scenes" (scores under lower-case names; null where infinite or undefined), "band_rmse" (null likewise),
        "seconds_per_image", "baselines" (the same for each), "peak_memory_bytes", "published", "model", "dataset",
        "versions", "device" and "git_revision".
    """
    ours, *baselines = reports
    values = {
        "protocol": ours.protocol.terms() | {"description": ours.protocol.describe()},
        **_scores(ours),
        "baselines": {baseline.name: _scores(baseline) for baseline in baselines},
        "published": [{"method": row.method, **row.scores} for row in published],
        "peak_memory_bytes": peak_memory(),
        "model": {"name": ours.name, **model},
        "dataset": dict(dataset),
        **environment(),
        **(extra or {}),
    }
    return json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _scores(report: Report) -> dict[str, Any]:
    scenes = {name: finite(scores) for name, scores in report.scenes.items()}
    return {
        "mean": finite(report.means),
        "interval_95": intervals(report),
        "scenes": scenes,
        "band_rmse": [error if math.isfinite(error) else None for error in report.band_rmse],
        "seconds_per_image": report.seconds_per_image,
    }


def intervals(report: Report) -> dict[str, tuple[float, float] | None]:
    """Returns metric name → 95 % bootstrap interval of its mean."""
    return {metric: bootstrap_interval([s[metric] for s in report.scenes.values()]) for metric in COLUMNS}


def finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Returns the scores in JSON types: None where one is not finite."""
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def score_table(reports: Sequence[Report], published: Sequence[Published] = ()) -> Table:
    """Lays out the means for the terminal: the best of each column in bold, the protocol's terms below."""
    notes = "\n".join(_notes(reports, published))
    table = metric_table(f"Mean over {len(reports[0].scenes)} scenes", notes)
    measured = _mean_rows(reports, "[bold]{}[/bold]")
    for place, row in enumerate([measured[0], _interval_row(reports[0], "\n"), *measured[1:]]):
        add_row(table, row, end_section=place == len(reports))
    for row in _published_rows(published):
        add_row(table, row, style="dim")
    return table


def add_row(table: Table, row: Sequence[str], **style: Any) -> None:
    """Adds a row; its first cell is a label, in which brackets are no markup."""
    from rich.markup import escape

    table.add_row(escape(row[0]), *row[1:], **style)


def metric_table(title: str, caption: str = "") -> Table:
    """Returns an empty table for the terminal with a column for labels and one for each metric."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    style: Any = {
        "box": box.SIMPLE_HEAD,
        "pad_edge": False,
        "padding": (0, 0, 0, 1),
        "title_justify": "left",
        "caption_justify": "left",
    }
    table = Table(title=escape(title), caption=escape(caption) or None, **style)
    # In a narrow terminal names wrap and numbers stay whole. Headings of two lines leave the names room.
    table.add_column("", min_width=20, overflow="fold")
    for column, _, _ in COLUMNS.values():
        table.add_column(column.replace(" ", "\n", 1), justify="right", min_width=6, no_wrap=True)
    return table


def report_markdown(
    reports: Sequence[Report], *, dataset: Mapping[str, Any], figure: str = "", published: Sequence[Published] = ()
) -> str:
    """Formats an evaluation as a Markdown page: mean scores, protocol, scores of every scene, and RMSE by band.

    Args:
        reports: see `report_json`.
        dataset: description of the scenes; see `m3sr_jax.evaluation.report.dataset_facts`.
        figure: file name of a picture to show; empty for none.
        published: published rows to show as well.
    """
    ours = reports[0]
    heading = f"# {display_name(ours.name)} on {dataset['name']}"
    scenes = "held-out scenes" if "valid_scenes" in dataset else "scenes"
    lines = [heading, "", f"Mean over {len(ours.scenes)} {scenes}.", ""]
    lines += [line for note in dataset.get("notes", ()) for line in (f"Note: {note}.", "")]
    if dataset.get("missing"):
        lines += [f"**{dataset['missing']} files or scenes of the official split are missing.**", ""]
    measured = _mean_rows(reports, "**{}**")
    rows = [measured[0], _interval_row(ours, "–"), *measured[1:], *_published_rows(published)]
    lines += [*_markdown_table("", rows), "", " ".join(_notes(reports, published)), ""]
    if figure:
        lines += [f"![Reconstruction of a held-out scene]({figure})", ""]
    by_scene = [[scene, *metric_cells(scores)] for scene, scores in ours.scenes.items()]
    lines += ["## Every scene", "", *_markdown_table("scene", by_scene), ""]
    if ours.band_rmse and "wavelengths" in dataset:
        bands = zip(dataset["wavelengths"], ours.band_rmse, strict=True)
        lines += ["## RMSE by band", "", "| nm | RMSE |", "| ---: | ---: |"]
        lines += [*(f"| {nm:g} | {error:.4f} |" for nm, error in bands), ""]
    return "\n".join([*lines, _computed_with(ours), ""])


def _notes(reports: Sequence[Report], published: Sequence[Published]) -> list[str]:
    notes = [f"Protocol {reports[0].protocol.describe()}.", INTERVAL_NOTE]
    if any(report.name.startswith(LEAST_SQUARES) for report in reports):
        notes.append(FITS_NOTE)
    return [*notes, *([PUBLISHED_NOTE] if published else []), *verdict(reports)]


def verdict(reports: Sequence[Report]) -> list[str]:
    """Says that a model, the first of the reports, is not above the best least-squares fit by PSNR; else nothing."""
    ours, fits = reports[0], [report for report in reports if report.name.startswith(LEAST_SQUARES)]
    best = max(fits, key=lambda report: report.means["psnr"], default=ours)
    if best is ours or ours.means["psnr"] > best.means["psnr"]:
        return []
    scores = f"{ours.means['psnr']:.2f} dB against {best.means['psnr']:.2f} dB"
    return [f"{display_name(ours.name)} does not beat {display_name(best.name)}: {scores}."]


def _computed_with(ours: Report) -> str:
    facts, memory = environment(), peak_memory()
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    device = f"{facts['device']['platform']} ({facts['device']['kind']})"
    peak = ", ".join(f"{size / MIB:,.0f} MiB on the {where}" for where, size in memory.items())
    revision = f", revision {facts['git_revision']}" if facts["git_revision"] else ""
    speed = "Scored" if ours.seconds_per_image is None else f"{ours.seconds_per_image:.3g} s per image"
    return f"{speed} on {device}, peak memory {peak}; {versions}{revision}."


def report_latex(reports: Sequence[Report], published: Sequence[Published] = ()) -> str:
    """Formats the means as rows of a LaTeX table (method and scores), below the terms as comments."""
    lines = [f"% Protocol {reports[0].protocol.describe()}", *(f"% {line}" for line in verdict(reports))]
    lines += [f"% {' & '.join(['Method', *COLUMNS])}"]
    rows = [[display_name(report.name), *metric_cells(report.means)] for report in reports]
    lines += [_latex_row(row) for row in rows]
    if published:
        lines += [r"\midrule", f"% {PUBLISHED_NOTE}"]
        lines += map(_latex_row, _published_rows(published))
    return "\n".join([*lines, ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"


def report_csv(reports: Sequence[Report], published: Sequence[Published] = ()) -> str:
    """Formats every number as CSV: protocol, method, kind (scene, mean, low_95, high_95, published), scene, metrics."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "method", "kind", "scene", *COLUMNS])
    protocol = reports[0].protocol.name
    for report in reports:
        ends = intervals(report).items()
        for scene, scores in report.scenes.items():
            writer.writerow([protocol, report.name, "scene", scene, *(scores[metric] for metric in COLUMNS)])
        writer.writerow([protocol, report.name, "mean", "", *(report.means[metric] for metric in COLUMNS)])
        for place, kind in enumerate(("low_95", "high_95")):
            writer.writerow([protocol, report.name, kind, "", *(end[place] if end else "" for _, end in ends)])
    for row in published:
        scores = ["" if row.scores.get(metric) is None else row.scores[metric] for metric in COLUMNS]
        writer.writerow(["", row.method, "published", "", *scores])
    return text.getvalue()


def _mean_rows(reports: Sequence[Report], emphasis: str) -> list[list[str]]:
    means = [report.means for report in reports]
    rows = [[display_name(report.name), *metric_cells(report.means)] for report in reports]
    for column, (metric, (_, _, higher_is_better)) in enumerate(COLUMNS.items(), start=1):
        ranked = [mean[metric] * (-1 if higher_is_better else 1) for mean in means]
        if len(rows) > 1 and not any(map(math.isnan, ranked)):
            best = rows[ranked.index(min(ranked))]
            best[column] = emphasis.format(best[column])
    return rows


def _interval_row(report: Report, between: str) -> list[str]:
    cells = []
    for metric, ends in intervals(report).items():
        digits = COLUMNS[metric][1]
        cells.append(between.join(f"{end:.{digits}f}" for end in ends) if ends else "–")
    return ["  95 % interval", *cells]


def _published_rows(published: Sequence[Published]) -> list[list[str]]:
    return [[f"{row.method} (published)", *metric_cells(row.scores)] for row in published]


def metric_cells(scores: Mapping[str, float | None]) -> list[str]:
    """Formats the score of each metric, "–" for none."""
    found = [(scores.get(metric), digits) for metric, (_, digits, _) in COLUMNS.items()]
    return ["–" if score is None else f"{score:.{digits}f}" for score, digits in found]


def display_name(method: str) -> str:
    """Returns the name of a method that tables and pictures show."""
    fit = method.removeprefix(LEAST_SQUARES)
    if fit == method:
        return NETWORKS[method].title if method in NETWORKS else method
    return f"{'weighted ' * fit.endswith(WEIGHTED)}{fit.removesuffix(WEIGHTED)} least squares"


def _markdown_table(corner: str, rows: Sequence[Sequence[str]]) -> list[str]:
    headings = [corner, *(heading for heading, _, _ in COLUMNS.values())]
    rule = ["---", *["---:"] * len(COLUMNS)]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (headings, rule, *rows)]
