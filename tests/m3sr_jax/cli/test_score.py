"""`m3sr score` as a user types it."""

import json

import numpy as np
import pytest

from m3sr_jax.cli import main
from m3sr_jax.evaluation.compare import read_evaluation
from m3sr_jax.evaluation.protocols import PROTOCOLS, evaluate_pair
from m3sr_jax.io import write_cube

NM = np.arange(400.0, 701.0, 50)
SIZE = (16, 20)


@pytest.fixture
def cubes(tmp_path):
    """Two scenes in two folders, and one file in each without a partner; returns name → (prediction, truth)."""
    rng = np.random.default_rng(0)
    pairs = {name: tuple(rng.uniform(0.1, 0.9, (2, *SIZE, len(NM))).astype(np.float32)) for name in ("clay", "beads")}
    for folder in ("ours", "truth"):
        (tmp_path / folder).mkdir()
    for name, (prediction, truth) in pairs.items():
        write_cube(tmp_path / "ours" / f"{name}_clean.npz", prediction, NM)
        write_cube(tmp_path / "truth" / f"{name}.mat", truth, NM)
    write_cube(tmp_path / "ours" / "alone.mat", pairs["clay"][0], NM)
    write_cube(tmp_path / "truth" / "lonely.mat", pairs["clay"][1], NM)
    return pairs


def test_folders_are_scored_scene_by_scene(cubes, tmp_path, capsys):
    output, figures = tmp_path / "report.json", tmp_path / "figures"
    where = [str(tmp_path / "ours"), str(tmp_path / "truth")]
    assert main(["score", *where, "--output", str(output), "--figures", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert f"not scored, no cube of the same name: {tmp_path / 'ours' / 'alone.mat'}" in printed
    assert f"not scored, no cube of the same name: {tmp_path / 'truth' / 'lonely.mat'}" in printed
    assert "Protocol full_frame: full frame" in printed
    values = json.loads(output.read_text())
    assert list(values["scenes"]) == ["beads", "clay"]
    for name, (prediction, truth) in cubes.items():
        assert values["scenes"][name] == evaluate_pair(PROTOCOLS["full_frame"], prediction, truth)
    assert values["protocol"]["name"] == "full_frame"
    assert (values["model"]["name"], values["seconds_per_image"], values["baselines"]) == ("ours", None, {})
    assert values["dataset"]["wavelengths"] == NM.tolist()
    assert len(values["band_rmse"]) == len(NM)
    assert all(output.with_suffix(suffix).stat().st_size for suffix in (".md", ".csv", ".tex"))
    assert sorted(path.name for path in figures.iterdir()) == ["beads.png", "clay.png"]
    assert read_evaluation(output).scenes["clay"]["psnr"] == values["scenes"]["clay"]["psnr"]


def test_folders_named_by_dots_or_as_a_benchmark_are_no_more_than_folders(cubes, tmp_path, monkeypatch):
    (tmp_path / "truth").rename(tmp_path / "cave")
    monkeypatch.chdir(tmp_path / "ours")
    assert main(["score", ".", "../cave", "--output", "../report.json"]) == 0
    values = json.loads((tmp_path / "report.json").read_text())
    assert (values["model"]["name"], values["dataset"]["name"], values["published"]) == ("ours", "cave", [])
    assert "published" not in (tmp_path / "report.md").read_text()


def test_one_pair_under_another_protocol(cubes, tmp_path, capsys):
    files = [str(tmp_path / "ours" / "clay_clean.npz"), str(tmp_path / "truth" / "clay.mat")]
    output = tmp_path / "report.json"
    assert main(["score", *files, "--protocol", "ntire2020", "--label", "mine", "--output", str(output)]) == 0
    values = json.loads(output.read_text())
    assert values["scenes"] == {"clay": evaluate_pair(PROTOCOLS["ntire2020"], *cubes["clay"])}
    assert "mine" in capsys.readouterr().out
    assert main(["score", *files, "--protocol", "ntire2022"]) == 2
    assert "clay_clean.npz: image of 16×20 pixels: protocol ntire2022 cuts 128" in capsys.readouterr().err


def test_cubes_that_do_not_match_are_refused_by_name(cubes, tmp_path, capsys):
    truth = tmp_path / "truth" / "clay.mat"

    def refusal(cube, nm=NM):
        write_cube(tmp_path / "other.mat", cube, nm)
        assert main(["score", str(tmp_path / "other.mat"), str(truth)]) == 2
        return capsys.readouterr().err

    cube = cubes["clay"][0]
    assert "other.mat: found 15×20 pixels of 7 bands; expected 16×20 pixels of 7 bands as in" in refusal(cube[1:])
    assert "found 16×20 pixels of 6 bands" in refusal(cube[..., 1:], NM[1:])
    assert "other.mat: found bands of 410-710 nm; expected 400-700 nm as in" in refusal(cube, NM + 10)
    assert main(["score", str(tmp_path / "other.mat"), str(truth), "--wavelengths", "400:700:50"]) == 0
    assert main(["score", str(tmp_path / "truth"), str(truth)]) == 2
    assert "found a file and a folder; expected two files or two folders" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["score", str(tmp_path / "empty"), str(tmp_path / "truth")]) == 2
    assert "found none and beads, clay, lonely" in capsys.readouterr().err
    assert main(["score", str(tmp_path / "missing.mat"), str(truth)]) == 2
    assert "missing.mat: no such file or folder" in capsys.readouterr().err
    assert main(["score", "/dev/null", str(truth)]) == 2  # as a shell names a pipe, <(command)
    assert '/dev/null: found suffix ""; expected one of .hdr' in capsys.readouterr().err


def test_a_truth_that_spoils_a_score_is_noted(tmp_path, capsys):
    cube = np.full((*SIZE, len(NM)), 2048, np.uint16)
    cube[0] = 0
    np.savez(tmp_path / "truth.npz", rad=cube, wavelengths=NM)
    write_cube(tmp_path / "ours.mat", cube / np.float32(4095), NM)
    given = ["score", str(tmp_path / "ours.mat"), str(tmp_path / "truth.npz"), "--truth-key", "rad"]
    assert main([*given, "--truth-white", "4095"]) == 0
    printed = capsys.readouterr().out
    assert "note: zeros in the cube, where MRAE is infinite unless protocol and loss have a floor: truth" in printed
    assert "0.0000" in printed
    for white in ("0", "-4095", "nan", "inf"):
        assert main([*given, "--truth-white", white]) == 2
        told = f"truth.npz: found white {white}; expected a finite number above 0, which becomes 1"
        assert told in capsys.readouterr().err


def test_half_widths_beside_predictions_are_not_listed(cubes, tmp_path, capsys):
    (tmp_path / "envi").mkdir()
    for name in ("clay.hdr", "clay_interval.hdr"):
        write_cube(tmp_path / "envi" / name, cubes["clay"][0], NM)
    assert main(["score", str(tmp_path / "envi"), str(tmp_path / "truth")]) == 0
    assert "clay_interval" not in capsys.readouterr().out


def test_a_prediction_in_another_unit_is_noted_and_read_with_its_white(cubes, tmp_path, capsys):
    prediction, truth = cubes["clay"]
    write_cube(tmp_path / "percent.npz", prediction * 100, NM)
    given = ["score", str(tmp_path / "percent.npz"), str(tmp_path / "truth" / "clay.mat")]
    told = "the prediction is about 100 times the truth on average: another unit? (--white, --truth-white): clay"
    assert main(given) == 0
    assert f"note: {told}" in capsys.readouterr().out
    output = tmp_path / "report.json"
    assert main([*given, "--white", "100", "--output", str(output)]) == 0
    assert "another unit" not in capsys.readouterr().out
    expected = evaluate_pair(PROTOCOLS["full_frame"], prediction, truth)
    assert json.loads(output.read_text())["scenes"]["clay"] == pytest.approx(expected, rel=1e-5)
