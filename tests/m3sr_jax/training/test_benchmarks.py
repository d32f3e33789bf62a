"""A benchmark from its folder to a table: check, prepare, train and evaluate, with a network of two convolutions."""

import dataclasses
import json

import pytest

from m3sr_jax.cli import main
from m3sr_jax.config import DataConfig, LossConfig
from m3sr_jax.model_card import read_card
from m3sr_jax.training.loop import train_and_evaluate
from tests.m3sr_jax.data import arad_folder as arad

SIZE = (272, 280)  # ntire2022's protocol cuts 128 pixels off every side


@pytest.fixture
def download(tmp_path, monkeypatch):
    monkeypatch.setattr(arad, "random_cube", lambda seed: smooth_cube(seed))
    arad.ntire2022(tmp_path / "ntire2022", train=(1, 2))
    arad.ntire2020(tmp_path / "ntire2020", train=(1, 2))
    return tmp_path


def smooth_cube(seed):
    return arad.np.random.default_rng(seed).random((34, 35, 31), arad.np.float32).repeat(8, 0).repeat(8, 1) * 0.9 + 0.05


@pytest.mark.parametrize(
    ("name", "normalization", "protocol"),
    [("ntire2022", "minmax", "ntire2022"), ("ntire2020_clean", "unit", "ntire2020")],
)
def test_from_a_folder_to_a_table(toy, download, name, normalization, protocol):
    folder, store, workdir = download / name[:9], download / "store", download / "run"
    where = ["--dataset", name, "--data-root", str(folder)]
    assert main(["check", *where]) == 2  # most of the official split is missing
    assert main(["prepare", *where, "--output", str(store)]) == 0
    data = DataConfig(name=name, root=str(store), batch_size=2, crop_size=32)
    train = dataclasses.replace(toy.train, num_steps=4, eval_every_steps=4, checkpoint_every_steps=4)
    config = dataclasses.replace(toy, data=data, train=train, loss=LossConfig(mrae=0.5, wavelet=0.5))
    assert train_and_evaluate(config, workdir) == 0
    assert read_card(workdir).rgb_normalization == normalization
    assert json.loads((workdir / "report" / "report.json").read_text())["dataset"]["missing"] > 0
    # The store's held-out cubes are those of the files, so the scores are the same.
    means = []
    for root in (folder, store):
        output = download / f"{root.name}.json"
        arguments = ["--checkpoint", str(workdir), "--dataset", name, "--data-root", str(root), "--output", str(output)]
        assert main(["evaluate", *arguments]) == 0
        values = json.loads(output.read_text())
        assert values["protocol"]["name"] == protocol
        means.append(values["mean"])
    assert means[0] == means[1]
