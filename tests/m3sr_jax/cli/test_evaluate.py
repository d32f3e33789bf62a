"""`m3sr evaluate` as a user types it, on a small model and a folder laid out like CAVE's download."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from m3sr_jax.checkpoint import save_model
from m3sr_jax.cli import main
from m3sr_jax.config import Config, DataConfig, ModelConfig
from m3sr_jax.data.cave import open_cave
from m3sr_jax.evaluation.protocols import PROTOCOLS, evaluate_pair
from m3sr_jax.inference.predictor import run_network
from m3sr_jax.io import read_cube, write_cube
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, parameter_shapes

SPLIT = {"train": ("clay", "hairs", "cloth"), "valid": ("balloons", "face")}
NM = tuple(float(nm) for nm in range(400, 701, 10))
FIELDS = ModelConfig(num_groups=1, features=4, branches=("spatial",))


@pytest.fixture
def cave(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "CAVE"
    for name in SPLIT["train"] + SPLIT["valid"]:
        folder = root / f"{name}_ms" / f"{name}_ms"
        folder.mkdir(parents=True)
        patches = rng.integers(2000, 60000, (31, 4, 4)).astype(np.uint16).repeat(5, 1).repeat(6, 2)
        for i, band in enumerate(patches, 1):
            Image.fromarray(band).save(folder / f"{name}_ms_{i:02d}.png")
    lines = [line for part, names in SPLIT.items() for line in (f"[{part}]", *names)]
    (tmp_path / "split.txt").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of random weights; no test writes into its folder."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(build_model(FIELDS))
    params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes)
    folder = tmp_path_factory.mktemp("checkpoints") / "model"
    save_model(folder, ModelCard(FIELDS, NM, camera="cie1964"), params)
    return folder, params


def test_table_and_report_hold_the_model_beside_least_squares(cave, checkpoint, tmp_path, capsys):
    folder, params = checkpoint
    output, split = tmp_path / "REPORT.json", str(tmp_path / "split.txt")
    where = ["--dataset", "cave", "--data-root", str(cave), "--split-file", split]
    assert main(["evaluate", "--checkpoint", str(folder), *where, "--output", str(output)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for expected in ("M3SR", "linear least squares", "quadratic least squares", "Protocol cave", "full frame"):
        assert expected in printed
    values = json.loads(output.read_text())
    scene = open_cave(cave, split_file=split).valid[0]
    expected = evaluate_pair(PROTOCOLS["cave"], run_network(build_model(FIELDS), params, scene.rgb), scene.cube)
    assert values["scenes"][scene.name] == pytest.approx(expected, rel=1e-5)
    assert set(values["scenes"]) == set(SPLIT["valid"])
    assert values["model"]["features"] == 4
    assert set(values["baselines"]) > {"least_squares_linear", "least_squares_quadratic"}
    assert not list(tmp_path.glob(".*"))
    assert {path.suffix for path in tmp_path.glob("REPORT.*")} == {".json", ".md", ".csv", ".tex"}
    assert len(values["band_rmse"]) == len(values["dataset"]["wavelengths"]) == 31
    assert values["published"][0]["method"] == "HSCNN+"


def test_scores_are_those_of_the_saved_cubes_and_pictures_of_every_scene(cave, checkpoint, tmp_path):
    cubes, pictures, output = tmp_path / "cubes", tmp_path / "pictures", tmp_path / "REPORT.json"
    where = ["--dataset", "cave", "--data-root", str(cave), "--split-file", str(tmp_path / "split.txt")]
    extras = [
        "--save-cubes",
        str(cubes),
        "--figures",
        str(pictures),
        "--pixels",
        "3,4",
        "17,20",
        "--output",
        str(output),
    ]
    assert main(["evaluate", "--checkpoint", str(checkpoint[0]), *where, *extras]) == 0
    values = json.loads(output.read_text())
    assert {path.stem for path in pictures.iterdir()} == set(SPLIT["valid"])
    for scene in open_cave(cave, split_file=tmp_path / "split.txt").valid:
        saved, wavelengths = read_cube(cubes / f"{scene.name}.mat")
        assert wavelengths.tolist() == list(NM)
        gaps, truth = saved.astype(np.float64) - scene.cube, scene.cube.astype(np.float64)
        expected = {"rmse": np.sqrt((gaps**2).mean()), "mrae": (np.abs(gaps) / np.maximum(truth, 1e-3)).mean()}
        stored = {name: values["scenes"][scene.name][name] for name in expected}
        assert stored == pytest.approx(expected, rel=1e-5)
    assert main(["evaluate", "--checkpoint", str(checkpoint[0]), *where, *extras[:4], "--pixels", "99,0"]) == 2


def test_a_workdir_is_evaluated_on_its_own_data_under_the_protocol_asked_for(cave, checkpoint, tmp_path, capsys):
    folder = shutil.copytree(checkpoint[0], tmp_path / "workdir")
    data = DataConfig(name="cave", root=str(cave), split_file=str(tmp_path / "split.txt"))
    (folder / "config.json").write_text(dataclasses.replace(Config(), model=FIELDS, data=data).to_json())
    assert main(["evaluate", "--checkpoint", str(folder), "--protocol", "ntire2020"]) == 0
    assert "Protocol ntire2020" in capsys.readouterr().out


def test_held_out_scenes_are_enough(cave, checkpoint, tmp_path, capsys):
    for name in SPLIT["train"]:
        shutil.rmtree(cave / f"{name}_ms")
    output, pictures = tmp_path / "REPORT.json", tmp_path / "pictures"
    (tmp_path / "split.txt").write_text("[valid]\nballoons\nface\n")
    where = ["--dataset", "cave", "--data-root", str(cave), "--split-file", str(tmp_path / "split.txt")]
    extras = ["--output", str(output), "--figures", str(pictures)]
    assert main(["evaluate", "--checkpoint", str(checkpoint[0]), *where, *extras]) == 0
    printed = capsys.readouterr().out
    assert "note: no training scenes are present, so the table has no least-squares rows" in printed
    assert "linear least squares" not in printed
    values = json.loads(output.read_text())
    assert (set(values["scenes"]), values["baselines"]) == (set(SPLIT["valid"]), {})
    assert {path.stem for path in pictures.iterdir()} == set(SPLIT["valid"])
    assert (
        main(["evaluate", "--checkpoint", str(checkpoint[0]), *where[:4]]) == 0
    )  # of the built-in split, balloons alone
    assert "files or scenes of the official split are missing" in capsys.readouterr().out


def test_no_file_of_the_data_set_is_replaced(checkpoint, tmp_path, capsys):
    for folder in ("cubes", "photos"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    for name in ("clay", "hairs"):
        write_cube(tmp_path / "mine" / "cubes" / f"{name}.mat", np.full((16, 20, 31), 0.5, np.float32), np.array(NM))
        Image.new("RGB", (20, 16), "grey").save(tmp_path / "mine" / "photos" / f"{name}.png")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    data = ["--dataset", "folder", "--data-root", str(tmp_path / "mine"), "--valid-fraction", "1"]
    for option, folder in (("--save-cubes", "cubes"), ("--figures", "photos")):
        target = tmp_path / "mine" / "." / folder
        assert main(["evaluate", "--checkpoint", str(checkpoint[0]), *data, option, str(target)]) == 2
        assert f": is a file of the data set; choose another folder for {option}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "pass --dataset"),
        (["--dataset", "cave", "--data-root", "nowhere"], "nowhere"),
        (["--dataset", "cave", "--protocol", "ntire"], 'protocol "ntire" is unknown'),
        (["--dataset", "cave", "--output", "no/such/folder/report.json"], "report.json: cannot be written"),
        (["--dataset", "cave", "--output", "report.md"], "expected a name that ends in .json"),
        (["--dataset", "cave", "--data-root", ".", "--pixels", "3,4"], "--pixels 3,4: needs a folder for the pictures"),
        (["--dataset", "cave", "--data-root", ".", "--pixels", "3x4"], "--pixels 3x4: expected up to four"),
        (["--dataset", "cave", "--data-root", ".", "--pixels", "²,1"], "--pixels ²,1: expected up to four"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(checkpoint, arguments, complaint, capsys):
    assert main(["evaluate", "--checkpoint", str(checkpoint[0]), *arguments]) == 2
    streams = capsys.readouterr()
    assert complaint in streams.err
    assert len(streams.err.splitlines()) == 1
