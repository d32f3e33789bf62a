"""`m3sr compare` as a user types it."""

import json
import os
import subprocess
import sys

import pytest

from m3sr_jax.cli import main
from m3sr_jax.evaluation.evaluate import Report
from m3sr_jax.evaluation.protocols import PROTOCOLS
from m3sr_jax.evaluation.tables import report_json


def write(path, psnr, protocol="cave"):
    scores = {"rmse": 0.02, "sam": 5.0, "sam_bright": 4.0, "mssim": 0.9, "mrae": 0.1}
    scenes = {f"scene{i}": {"psnr": psnr + 0.1 * i, **scores} for i in range(6)}
    path.parent.mkdir(exist_ok=True)
    path.write_text(report_json([Report("m3sr", PROTOCOLS[protocol], scenes, 0.1)], model={}, dataset={}))
    return str(path)


def test_reports_are_named_by_file_or_where_names_repeat_by_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a" / "report.json", 30.0)
    write(tmp_path / "b" / "report.json", 31.0)
    write(tmp_path / "b" / "other.json", 31.0)
    assert main(["compare", "a/report.json", "b/other.json"]) == 0
    printed = capsys.readouterr().out
    assert "report" in printed
    assert "other" in printed
    assert "+1.00" in printed
    assert main(["compare", "a/report.json", "b/report.json"]) == 0
    printed = capsys.readouterr().out
    assert "a/report" in printed
    assert "b/report" in printed


def test_reports_are_utf_8_whatever_the_locale(tmp_path):
    reports = [write(tmp_path / name, 30.0) for name in ("a.json", "b.json")]
    program = "import sys; from m3sr_jax.cli import main; sys.exit(main(['compare', *sys.argv[1:]]))"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", program, *reports], capture_output=True, env=plain)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "11×11 Gaussian window, σ 1.5" in " ".join(done.stdout.decode().split())


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["cave.json"], "found 1 report, expected two or more"),
        (["cave.json", "nowhere.json"], "nowhere.json"),
        (["cave.json", "broken.json"], "broken.json"),
        (["cave.json", "ntire.json"], "protocol"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, files, complaint, capsys):
    write(tmp_path / "cave.json", 30.0)
    write(tmp_path / "ntire.json", 30.0, protocol="ntire2020")
    (tmp_path / "broken.json").write_text(json.dumps({"scenes": 3}))
    assert main(["compare", *(str(tmp_path / name) for name in files)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
