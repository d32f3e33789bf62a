"""Every baseline on every benchmark's files: trained, resumed, then evaluated, predicted, viewed by the commands."""

import dataclasses
import json
import os
import shutil

import pytest
from PIL import Image

from m3sr_jax.cli import main
from m3sr_jax.config import Config, DataConfig, ModelConfig, TrainConfig
from m3sr_jax.networks import NETWORKS, load
from m3sr_jax.training.loop import train_and_evaluate
from m3sr_jax.training.metric_writer import read_metrics
from tests.m3sr_jax.data import arad_folder as arad

# Defaults that compile in seconds; a checkpoint's model.json does not name them, so a name means them everywhere here.
SMALL = {
    "mst_plus_plus": {"transformers": 1},
    "hscnn_plus": {"dense_blocks": 2},
    "hrnet": {"width": 8},
    "gmsr": {},
    "hsrnet": {"stages": 1},
    "fmnet": {"blocks": 1, "width": 4},
    "essaformer": {"width": 16},
}
pytestmark = pytest.mark.usefixtures("compiled_once_and_quickly")
LAYOUTS = ("ntire2022", "ntire2020_clean", "ntire2020_real", "cave", "synthetic")
# Every layout, and every network that compiles soon; M3SR_FULL_MATRIX=1 has all pairs.
COVERING = {
    ("hscnn_plus", "ntire2022"),
    ("essaformer", "ntire2020_clean"),
    ("hrnet", "ntire2020_real"),
    ("hsrnet", "cave"),
    ("mst_plus_plus", "synthetic"),
    ("fmnet", "synthetic"),
}


@pytest.fixture
def small(monkeypatch):
    """Puts small versions of the networks in their places."""
    for name, fields in SMALL.items():
        network = NETWORKS[name]
        model = load(network.model)
        annotated = {"__annotations__": dict.fromkeys(fields, int), "__module__": __name__}
        small = type(model.__name__, (model,), fields | annotated)
        monkeypatch.setitem(NETWORKS, name, dataclasses.replace(network, model=small))


@pytest.fixture
def download(tmp_path, write_cave_scene):
    """Writes a benchmark's folder and returns its place."""

    def write(layout):
        root = tmp_path / layout
        if layout == "ntire2022":  # its protocol cuts 128 pixels off every side
            root.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(arad.random_cube, "__defaults__", ((272, 280), 31))
                arad.ntire2022(root, train=(1, 2))
        elif layout == "cave":
            for seed, scene in enumerate(("beads", "cd", "balloons")):
                write_cave_scene(root, scene, seed=seed)
        elif layout != "synthetic":
            arad.ntire2020(root)
        return root

    return write


def run(*arguments):
    assert main(list(map(str, arguments))) == 0


def losses(workdir):
    return {r["step"]: r["train/loss"] for r in read_metrics(workdir / "metrics.jsonl") if "train/loss" in r}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SMALL)
def test_a_baseline_goes_all_the_way(small, download, tmp_path, name, layout):
    if (name, layout) not in COVERING and "M3SR_FULL_MATRIX" not in os.environ:
        pytest.skip("set M3SR_FULL_MATRIX=1 (make matrix) for every baseline on every benchmark's files")
    root, workdir = download(layout), tmp_path / "run"
    synthetic = {"num_train_scenes": 2, "num_valid_scenes": 1, "scene_size": 24}
    data = DataConfig(layout, str(root), batch_size=2, crop_size=16, **(synthetic if layout == "synthetic" else {}))
    model = ModelConfig(name)
    train = TrainConfig(num_steps=3, log_every_steps=1, eval_every_steps=3, checkpoint_every_steps=2)
    config = Config(model, data, train=train)
    assert train_and_evaluate(config, workdir) == 0

    logged = losses(workdir)
    for path in ("checkpoints/latest/3", "checkpoints/best", "report"):
        shutil.rmtree(workdir / path)
    assert train_and_evaluate(config, workdir) == 0  # from step 2
    assert losses(workdir) == logged

    report, photo = tmp_path / "report.json", tmp_path / "photo.png"
    where = ["--dataset", layout, "--data-root", root] if layout != "synthetic" else ["--dataset", layout]
    if layout != "synthetic":  # whose default scenes are many and large
        run("evaluate", "--checkpoint", workdir, *where, "--output", report)
        values = json.loads(report.read_text())
        assert values["mean"]["psnr"] == json.loads((workdir / "report" / "report.json").read_text())["mean"]["psnr"]
    Image.fromarray(arad.photo_of(arad.random_cube(5, (24, 30)))).save(photo)
    run("predict", photo, "--checkpoint", workdir, "--output", tmp_path / "cube.npz")
    run("view", tmp_path / "cube.npz", "--output", tmp_path / "cube.html")
    run("inspect", "--checkpoint", workdir)
    if "M3SR_FULL_MATRIX" in os.environ:  # minutes of tracing; tests/m3sr_jax/test_export.py has one network always
        run("export", "--checkpoint", workdir, "--output", tmp_path / "exported")
