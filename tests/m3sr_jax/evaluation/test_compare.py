"""Comparisons of evaluations: which ones are comparable, and how they differ."""

import json
import re

import numpy as np
import pytest
from scipy.stats import wilcoxon

from m3sr_jax.cli import main
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.compare import check_comparable, differences, mean_rows, read_evaluation
from m3sr_jax.evaluation.evaluate import Report
from m3sr_jax.evaluation.protocols import PROTOCOLS
from m3sr_jax.evaluation.tables import report_json

NAMES = [f"scene{i}" for i in range(12)]


def write(path, seed, gain=0.0, protocol="cave", names=NAMES, dataset=None):
    rng = np.random.default_rng(seed)
    scenes = {}
    for name in names:
        psnr = 30 + rng.normal() + gain
        scenes[name] = {"psnr": psnr, "rmse": 10 ** (-psnr / 20), "sam": 5.0, "sam_bright": 3.0, "mssim": 0.9}
        scenes[name]["mrae"] = 0.1 + 0.01 * gain
    report = Report("m3sr", PROTOCOLS[protocol], scenes, 0.1)
    path.write_text(report_json([report], model={}, dataset=dataset or {}))
    return path


@pytest.fixture
def pair(tmp_path):
    return write(tmp_path / "ours.json", 0), write(tmp_path / "theirs.json", 1, gain=0.5)


def test_differences_are_paired_by_scene(pair):
    ours, theirs = map(read_evaluation, pair)
    found = {difference.metric: difference for difference in differences(ours, theirs, NAMES)}
    gaps = np.array([theirs.scenes[name]["psnr"] - ours.scenes[name]["psnr"] for name in NAMES])
    assert found["psnr"].mean == pytest.approx(gaps.mean())
    assert found["psnr"].p_value == pytest.approx(wilcoxon(gaps).pvalue)
    assert found["psnr"].better == (gaps > 0).sum() == found["rmse"].better
    low, high = found["psnr"].interval
    assert low < gaps.mean() < high
    assert (found["sam"].mean, found["sam"].p_value, found["sam"].better) == (0, None, 0)
    assert found["mrae"].better == 0


def test_only_shared_scenes_under_one_protocol_are_compared(pair, tmp_path):
    ours, theirs = map(read_evaluation, pair)
    some = read_evaluation(write(tmp_path / "some.json", 2, names=["scene3", "other"]))
    assert check_comparable([ours, theirs]) == NAMES
    assert check_comparable([ours, some]) == ["scene3"]
    none = read_evaluation(write(tmp_path / "none.json", 2, names=["other"]))
    with pytest.raises(InputError, match="ours, none: no scene in common"):
        check_comparable([ours, none])
    odd = read_evaluation(write(tmp_path / "odd.json", 2, protocol="ntire2022"))
    with pytest.raises(InputError, match=r"different protocols \(name cave and ntire2022, crop 0 and 128"):
        check_comparable([ours, odd])


def test_the_command_prints_both_tables(pair, capsys):
    assert main(["compare", *map(str, pair)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Mean over 12 shared scenes" in printed
    assert "Protocol cave: full frame" in printed
    assert "Difference from ours" in printed
    assert "of 12" in printed


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no such file"), ("{", "cannot be read"), ("{}", "cannot be read")]
)
def test_a_file_that_is_not_a_report_is_one_line(pair, tmp_path, content, told, capsys):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    assert main(["compare", str(pair[0]), str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert "bad.json" in line
    assert main(["compare", str(pair[0])]) == 2


@pytest.mark.parametrize("score", ["good", "30.5", [30.5]])
def test_a_score_that_is_no_number_is_one_line(pair, score, capsys):
    values = json.loads(pair[1].read_text())
    values["scenes"]["scene3"]["sam"] = score
    pair[1].write_text(json.dumps(values))
    assert main(["compare", *map(str, pair)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"theirs.json: cannot be read as a report of m3sr evaluate (sam: found {json.dumps(score)}" in line


@pytest.mark.parametrize("score", ["NaN", "1e400"])
def test_a_score_that_is_not_finite_has_no_mean(pair, score):
    pair[1].write_text(pair[1].read_text().replace('"sam": 5.0,', f'"sam": {score},'))
    theirs = read_evaluation(pair[1])
    assert theirs.scenes["scene3"]["sam"] is None
    assert mean_rows([theirs], NAMES)[0][3] == "–"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (("clean", "clean-1"), ("real", "real-2"), ["ours was scored on clean, theirs on real"]),
        (("cave", "cave-1"), ("cave", "cave-2"), ["ours was scored on cave-1, theirs on cave-2"]),
        (("cave", "cave-1"), ("cave", "cave-1"), []),
        (("cave", "cave-1"), (None, None), []),
    ],
)
def test_evaluations_on_other_data_are_noted(ours, theirs, told, tmp_path, capsys):
    paths = []
    for name, (data, fingerprint) in {"ours": ours, "theirs": theirs}.items():
        paths.append(write(tmp_path / f"{name}.json", 0, dataset={"name": data, "fingerprint": fingerprint}))
    assert main(["compare", *map(str, paths)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == [f"note: {text}" for text in told]


def test_numbers_stay_whole_in_a_narrow_terminal_with_long_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = ("a_run_with_a_very_long_name_on_ntire2022.json", "another_run_with_a_very_long_name_on_ntire2022.json")
    paths = [str(write(tmp_path / name, place)) for place, name in enumerate(names)]
    assert main(["compare", *paths]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert re.search(r"psnr  +[+-]0\.\d{3}  +[+-]\d\.\d{3} to [+-]\d\.\d{3}  +\d\.\d+  +\d+ of 12", printed)


def test_reports_that_call_the_floor_epsilon_compare_with_new_ones(pair):
    earlier = json.loads(pair[0].read_text())
    earlier["protocol"]["epsilon"] = earlier["protocol"].pop("mrae_floor")
    pair[0].write_text(json.dumps(earlier))
    old, new = map(read_evaluation, pair)
    assert old.protocol == new.protocol
    assert check_comparable([old, new]) == check_comparable([new, old]) == NAMES


def test_reports_without_bright_pixels_compare_with_new_ones(pair, capsys):
    earlier = json.loads(pair[0].read_text())
    for scores in earlier["scenes"].values():
        del scores["sam_bright"]
    pair[0].write_text(json.dumps(earlier))
    assert main(["compare", *map(str, pair)]) == 0
    old, new = map(read_evaluation, pair)
    assert {each.metric for each in differences(old, new, NAMES)} == {"psnr", "rmse", "sam", "mssim", "mrae"}


def test_brackets_in_labels_are_no_markup(tmp_path, capsys):
    paths = [str(write(tmp_path / name, 0)) for name in ("p[new].json", "q[bold].json")]
    assert main(["compare", *paths]) == 0
    printed = capsys.readouterr().out
    assert "Difference from p[new]" in printed
    assert printed.count("q[bold]") == 7  # a row of means, and one for each metric


def test_reports_of_one_name_are_labelled_by_folder(tmp_path, capsys):
    paths = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        paths.append(str(write(tmp_path / run / "report.json", len(paths))))
    assert main(["compare", *paths]) == 0
    assert json.loads((tmp_path / "a" / "report.json").read_text())["interval_95"]["psnr"][0] > 0
    assert "a/report" in capsys.readouterr().out
