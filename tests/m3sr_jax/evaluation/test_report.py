"""The report folder."""

import errno
import json

import numpy as np
import pytest

from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation import report
from m3sr_jax.evaluation.evaluate import evaluate
from m3sr_jax.evaluation.protocols import METRICS, PROTOCOLS
from m3sr_jax.evaluation.report import model_facts, write_report, write_tables
from m3sr_jax.model_card import ModelCard
from m3sr_jax.networks import NETWORKS

PROTOCOL = PROTOCOLS["synthetic"]


def grey(rgb):
    return np.repeat(rgb.mean(-1, keepdims=True), 31, axis=-1)


def test_the_folder_holds_scores_page_and_picture(dataset, tmp_path):
    card = ModelCard(ModelConfig(), tuple(map(float, range(400, 701, 10))), camera="thirds")
    folder = tmp_path / "run" / "report"
    reports = write_report(folder, grey, dataset, PROTOCOL, model=model_facts(card))
    files = ["reconstruction.png", "report.csv", "report.json", "report.md", "report.tex"]
    assert sorted(file.name for file in folder.iterdir()) == files
    values = json.loads((folder / "report.json").read_text())
    assert values["mean"] == evaluate(grey, dataset.valid, PROTOCOL).means == reports[0].means
    assert list(values["baselines"])[:2] == ["least_squares_linear", "least_squares_quadratic"]
    assert values["model"]["num_groups"] == 4
    assert values["model"]["camera"] == "thirds"
    assert values["dataset"]["train_scenes"] == 5
    assert "reconstruction.png" in (folder / "report.md").read_text()


def test_scores_that_are_not_finite_reach_every_file(dataset, tmp_path):
    write_report(tmp_path, lambda rgb: np.float32(np.nan) * grey(rgb), dataset, PROTOCOL)
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["mean"] == dict.fromkeys(METRICS)
    assert values["band_rmse"] == [None] * 31
    assert len(list(tmp_path.iterdir())) == 5


def test_no_table_is_written_if_one_cannot_be(dataset, tmp_path):
    reports = [evaluate(grey, dataset.valid, PROTOCOL)]
    with pytest.raises(ValueError, match="JSON"):
        write_tables(tmp_path / "report.json", reports, dataset={"name": "cave"}, model={}, extra={"odd": np.nan})
    assert not list(tmp_path.iterdir())


def test_a_table_that_cannot_be_written_is_named(dataset, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")  # of a write, which names no file

    monkeypatch.setattr(report, "write_text", full)
    reports = [evaluate(grey, dataset.valid, PROTOCOL)]
    with pytest.raises(InputError, match=r"report\.md: cannot be written \(No space left on device\)"):
        write_tables(tmp_path / "report.json", reports, dataset={"name": "cave"}, model={})


def test_a_picture_that_fails_costs_no_tables(dataset, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise InputError("no picture")

    monkeypatch.setattr(report, "reconstruction_figure", fail)
    with pytest.raises(InputError, match="no picture"):
        write_report(tmp_path, grey, dataset, PROTOCOL)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".md", ".csv", ".tex"}


def test_a_report_states_what_a_reader_must_know_of_its_network():
    wavelengths = tuple(map(float, range(400, 701, 10)))
    notes = [model_facts(ModelCard(ModelConfig(name), wavelengths)).get("note") for name in ("fmnet", "essaformer")]
    assert notes == [None, NETWORKS["essaformer"].note]


def test_a_folder_that_cannot_be_created_is_bad_input(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file" / "report", grey, dataset, PROTOCOL)
