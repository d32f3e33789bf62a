"""Tables, JSON and CSV of an evaluation."""

import csv
import dataclasses
import json
import math

from rich.console import Console

from m3sr_jax.evaluation.evaluate import Report
from m3sr_jax.evaluation.protocols import METRICS, PROTOCOLS
from m3sr_jax.evaluation.published import published_rows
from m3sr_jax.evaluation.tables import report_csv, report_json, report_latex, report_markdown, score_table, verdict


def report(name, psnr, sam):
    scores = {"mrae": 0.1, "rmse": 0.02, "psnr": psnr, "sam": sam, "sam_bright": sam / 2, "mssim": 0.9}
    return Report(name, PROTOCOLS["cave"], {"clay": scores, "hairs": scores | {"sam": sam + 2}}, 0.25)


REPORTS = [report("m3sr", 36.0, 5.0), report("least_squares_linear", 35.0, 4.0)]


def test_json_holds_terms_scores_baselines_and_versions():
    values = json.loads(report_json(REPORTS, model={"num_bands": 31}, dataset={"name": "cave"}))
    assert values["protocol"]["name"] == "cave"
    assert values["protocol"]["mrae_floor"] == 1e-3
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


def test_errors_by_band_are_null_in_json_where_they_are_not_finite():
    odd = dataclasses.replace(REPORTS[0], band_rmse=(0.5, math.nan, math.inf))
    assert json.loads(report_json([odd], model={}, dataset={}))["band_rmse"] == [0.5, None, None]


def test_markdown_marks_the_best_and_prints_the_terms():
    page = report_markdown(REPORTS, dataset={"name": "cave", "missing": 3}, figure="picture.png")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "**36.00**" in rows["M3SR"]
    assert "6.00" in rows["M3SR"]
    assert "**5.00**" in rows["linear least squares"]
    assert "7.00" in rows["hairs"]
    assert PROTOCOLS["cave"].describe() in page
    assert "(picture.png)" in page
    assert "3 files or scenes of the official split are missing" in page


def test_terminal_table_fits_eighty_columns():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(score_table(REPORTS))
    lines = captured.get().splitlines()
    assert any("linear least squares" in line and "35.00" in line and "0.1000" in line for line in lines)
    assert "max(truth, 0.001)" in " ".join(captured.get().split())


def test_numbers_stay_whole_in_a_narrow_terminal_with_long_names():
    scores = {"mrae": 12.3456, "rmse": 0.02, "psnr": -10.25, "sam": 107.25, "sam_bright": 103.5, "mssim": -0.0123}
    odd = Report("a network whose folder_has_a_very_long_name", PROTOCOLS["cave"], {"clay": scores}, 0.25)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(score_table([odd, *REPORTS]))
    printed = captured.get()
    assert max(map(len, printed.splitlines())) == 80
    assert "-10.25 0.0200 107.25 103.50 -0.0123 12.3456" in " ".join(printed.split())
    assert "…" not in printed


def test_pipes_in_labels_do_not_break_markdown_tables():
    page = report_markdown([report("a|b", 34.0, 5.0)], dataset={"name": "cave"})
    (row,) = [line for line in page.splitlines() if "34.00 | 0.0200 | 6.00" in line]
    assert row.startswith(r"| a\|b | 34.00")


def test_labels_are_text_in_every_format():
    label = r"50% [new] & a_b {#1} $x ~^\ [/new]"
    console = Console(width=160)
    with console.capture() as captured:
        console.print(score_table([report(label, 34.0, 5.0), REPORTS[1]]))
    row, *_, note = [line for line in captured.get().splitlines() if label in line]
    assert row.strip().startswith(label)
    assert "does not beat" in note
    (row,) = [line for line in report_latex([report(label, 34.0, 5.0)]).splitlines() if "34.00" in line]
    escaped = r"50\% [new] \& a\_b \{\#1\} \$x \textasciitilde{}\textasciicircum{}\textbackslash{} [/new]"
    assert row.startswith(f"{escaped} & 34.00 & ")


def test_published_rows_are_marked_and_never_the_best():
    rows = published_rows("cave")
    page = report_markdown(REPORTS, dataset={"name": "cave"}, published=rows)
    (line,) = [line for line in page.splitlines() if "GMSR" in line]
    assert line == "| GMSR (published) | 34.58 | 0.0206 | – | – | – | – |"
    assert "not measured here" in page
    assert "not measured here" not in report_markdown(REPORTS, dataset={"name": "cave"})
    tex = report_latex(REPORTS, rows).splitlines()
    assert r"M3SR (published) & 35.61 & 0.0184 & -- & -- & -- & -- \\" in tex
    assert r"linear least squares & 35.00 & 0.0200 & 5.00 & 2.00 & 0.9000 & 0.1000 \\" in tex
    assert tex[0].startswith("% Protocol cave: full frame")
    stored = json.loads(report_json(REPORTS, model={}, dataset={}, published=rows))["published"]
    assert stored[0] == {"method": "HSCNN+", "psnr": 33.81, "rmse": 0.0227, "sam": None, "mssim": None, "mrae": None}


def test_csv_holds_every_number():
    rows = list(csv.DictReader(report_csv(REPORTS, published_rows("cave")).splitlines()))
    kinds = {(row["method"], row["kind"], row["scene"]): row for row in rows}
    assert float(kinds["m3sr", "scene", "hairs"]["sam"]) == 7.0
    assert float(kinds["least_squares_linear", "mean", ""]["sam"]) == 5.0
    assert float(kinds["m3sr", "low_95", ""]["sam"]) == 5.0
    assert kinds["M3SR", "published", ""]["sam"] == ""
    assert kinds["m3sr", "mean", ""]["protocol"] == "cave"


def test_intervals_and_memory_are_stored():
    values = json.loads(report_json(REPORTS, model={}, dataset={}))
    assert values["interval_95"]["sam"] == [5.0, 7.0]
    assert values["interval_95"]["psnr"] == [36.0, 36.0]
    assert values["peak_memory_bytes"]["host"] > 2**20


def test_a_model_that_no_fit_beats_is_not_scolded_and_another_is_named():
    better, worse = report("m3sr", 36.0, 5.0), report("m3sr", 34.9, 5.0)
    fits = [report("least_squares_linear", 35.0, 4.0), report("least_squares_cubic_weighted", 35.5, 4.0)]
    assert verdict([better, *fits]) == []
    (line,) = verdict([worse, *fits])
    assert line == "M3SR does not beat weighted cubic least squares: 34.90 dB against 35.50 dB."
    page = report_markdown([worse, *fits], dataset={"name": "cave"})
    assert line in page
    assert "best of 14 fits" in page
    assert verdict([worse]) == []
