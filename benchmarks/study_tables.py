"""Tables of the rows of study_cave.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from m3sr_jax.evaluation.intervals import bootstrap_interval

PARTS = ("test", "fold_1", "fold_2", "fold_3")  # together they have every scene once


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats the rows as Markdown: mean and range over the seeds."""
    lines = ["| part | network | recipe | steps | seeds | PSNR dB ↑ | RMSE ↓ | SAM ° ↓ | bright SAM ° ↓ | MSSIM ↑ |"]
    lines[0] += " MRAE ↓ | PSNR ×0.5 | PSNR ×2 | CPU min |"
    lines.append("|---|---|---|" + "---:|" * 11)
    for same in by_seed([*rows, *over_all_scenes(rows)]):
        first = same[0]
        rate = f"rate {first['learning_rate']:g}" if first.get("learning_rate") else ""
        recipe = " ".join(filter(None, (first["recipe"], rate, first.get("set"))))
        part = f"{first['part']}, {first['split']} scenes"
        cells = [part, first["network"], recipe, str(first["steps"]), str(len(same))]
        for metric, digits in (("psnr", 2), ("rmse", 4), ("sam", 2), ("sam_bright", 2), ("mssim", 4), ("mrae", 4)):
            cells.append(spread([row["mean"][metric] for row in same], digits))
        cells += [spread([row["exposures"][exposure]["psnr"] for row in same], 2) for exposure in ("0.5", "2")]
        cells.append(f"{np.mean([row['cpu_s'] for row in same]) / 60:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_seed(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Groups rows that differ in their seed alone."""
    keys = ("part", "split", "features", "learning_rate", "set", "network", "recipe", "steps")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return list(groups.values())


def over_all_scenes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for every network, recipe and length that scored all 26 scenes, with means over the scenes."""
    found: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["split"] in PARTS and (row["seed"], row.get("set")) == (0, None):
            found.setdefault((row["network"], row["recipe"], row["steps"]), {})[row["split"]] = row
    whole = []
    for (network, recipe, steps), parts in found.items():
        if len(parts) == len(PARTS):
            sizes = [len(row["scenes"]) for row in parts.values()]
            average = partial(np.average, axis=0, weights=sizes)
            means = {name: average([row["mean"][name] for row in parts.values()]) for name in parts["test"]["mean"]}
            exposures = {
                name: {"psnr": average([row["exposures"][name]["psnr"] for row in parts.values()])}
                for name in ("0.5", "2")
            }
            key = {"part": "folds", "split": f"all {sum(sizes)}", "network": network, "recipe": recipe, "steps": steps}
            cpu = np.mean([row["cpu_s"] for row in parts.values()])
            scenes = {name: scores for row in parts.values() for name, scores in row["scenes"].items()}
            whole.append(key | {"mean": means, "exposures": exposures, "cpu_s": cpu, "scenes": scenes})
    return whole


def paired(rows: Sequence[dict[str, Any]]) -> str:
    """Says how far M3SR with "full" is from runs as long, over all 26 scenes: mean difference and its 95 % interval."""
    whole = over_all_scenes(rows)
    ours = {row["steps"]: row["scenes"] for row in whole if (row["network"], row["recipe"]) == ("m3sr", "full")}
    lines = []
    for row in whole:
        if row["steps"] not in ours:
            continue
        for metric in ("psnr", "sam"):
            gaps = [ours[row["steps"]][name][metric] - scores[metric] for name, scores in row["scenes"].items()]
            if any(gaps):
                lower = f"lower on {sum(gap < 0 for gap in gaps)} of {len(gaps)} scenes"
                text = f"M3SR, {row['steps']} steps, {metric}, against {row['network']} {row['recipe']}"
                interval = " to ".join(f"{end:+.2f}" for end in bootstrap_interval(gaps) or ())
                lines.append(f"{text}: {np.mean(gaps):+.2f} ({interval}), {lower}")
    return "\n".join(lines)


def curves(rows: Sequence[dict[str, Any]]) -> str:
    """Formats PSNR and SAM along the long runs as Markdown: mean and range over the seeds."""
    lines = ["| network | steps | seeds | PSNR dB ↑ | SAM ° ↓ |", "|---|---:|---:|---:|---:|"]
    for same in by_seed([row for row in rows if row["part"] == "long"]):
        for step in same[0]["curve"]:
            psnr, sam = (spread([row["curve"][step][metric] for row in same], 2) for metric in ("psnr", "sam"))
            lines.append(f"| {same[0]['network']} | {step} | {len(same)} | {psnr} | {sam} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    ends = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{ends}"
