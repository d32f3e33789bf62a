"""What tables and JSON say of an evaluation."""

import json
import math

from rich.console import Console

from m3sr_jax.inference.evaluate import Report
from m3sr_jax.protocols import METRICS, PROTOCOLS
from m3sr_jax.report.scores import report_json, report_markdown, score_table


def report(name, psnr, sam):
    scores = {"mrae": 0.1, "rmse": 0.02, "psnr": psnr, "sam": sam, "mssim": 0.9}
    return Report(name, PROTOCOLS["cave"], {"clay": scores, "hairs": scores | {"sam": sam + 2}}, 0.25)


REPORTS = [report("m3sr", 36.0, 5.0), report("least_squares_linear", 35.0, 4.0)]


def test_json_holds_terms_scores_baselines_and_versions():
    values = json.loads(report_json(REPORTS, model={"num_bands": 31}, dataset={"name": "cave"}))
    assert values["protocol"]["name"] == "cave"
    assert values["protocol"]["epsilon"] == 1e-3
    assert set(values["mean"]) == set(METRICS)
    assert values["mean"]["sam"] == 6.0
    assert values["scenes"]["hairs"]["sam"] == 7.0
    assert values["baselines"]["least_squares_linear"]["mean"]["psnr"] == 35.0
    assert values["model"] == {"name": "m3sr", "num_bands": 31}
    assert values["dataset"] == {"name": "cave"}
    assert values["seconds_per_image"] == 0.25
    assert {"jax", "flax", "m3sr-jax", "python"} <= set(values["versions"])
    assert values["device"]["platform"] == "cpu"
    assert "git_revision" in values


def test_json_stays_json_where_a_score_is_infinite_or_undefined():
    odd = report("m3sr", math.inf, math.nan)
    text = report_json([odd], model={}, dataset={})
    values = json.loads(text, parse_constant=lambda constant: 1 / 0)
    assert values["mean"]["psnr"] is None
    assert values["scenes"]["clay"]["sam"] is None


def test_markdown_marks_the_best_and_prints_the_terms():
    page = report_markdown(REPORTS, dataset="cave", figure="picture.png")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "**36.00**" in rows["M3SR"]
    assert "6.00" in rows["M3SR"]
    assert "**5.00**" in rows["linear least squares"]
    assert "7.00" in rows["hairs"]
    assert PROTOCOLS["cave"].describe() in page
    assert "(picture.png)" in page


def test_terminal_table_fits_eighty_columns():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(score_table(REPORTS))
    lines = captured.get().splitlines()
    assert any("linear least squares" in line and "35.00" in line and "0.1000" in line for line in lines)
    assert "max(truth, 0.001)" in " ".join(captured.get().split())
