"""metrics.jsonl: valid JSON lines, none stale, none doubled, none half."""

import json
import sys

import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.training.metric_writer import MetricWriter, read_metrics


def test_each_write_is_one_line_that_others_see_at_once(tmp_path):
    writer = MetricWriter(tmp_path, last_step=0)
    writer.write_scalars(1, {"train/loss": 0.1})
    writer.write_scalars(2, {"train/loss": float("nan"), "eval/psnr": float("inf")})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    writer.close()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "train/loss": 0.1},
        {"step": 2, "train/loss": None, "eval/psnr": None},
    ]


def test_resumed_it_drops_what_will_be_written_again_and_what_a_kill_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kept = '{"step": 0, "baseline/least_squares/psnr": 1.0}\n{"step": 5, "train/loss": 2.0}\n'
    path.write_text(kept + '{"step": 6, "train/loss": 3.0}\n{"step": 7, "tra')
    writer = MetricWriter(tmp_path, last_step=5)
    assert path.read_text() == kept
    assert writer.has("baseline/least_squares/psnr")
    assert writer.has("train/loss", 5)
    assert not writer.has("train/loss", 6)
    writer.write_scalars(6, {"train/loss": 4.0})
    assert writer.has("train/loss", 6)
    writer.close()
    assert [record["step"] for record in read_metrics(path)] == [0, 5, 6]
    assert not list(tmp_path.glob(".*"))


def test_damaged_lines_do_not_keep_a_run_from_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kept = b'{"step": 5, "train/loss": 2.0}\n'
    path.write_bytes(b'{"step": 1, "tra\xff\n[1]\n{"step": "2"}\n{"loss": 1}\n' + kept)
    MetricWriter(tmp_path, last_step=5).close()
    assert path.read_bytes() == kept


def test_a_new_run_starts_empty(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 3.0}\n')
    MetricWriter(tmp_path, last_step=0).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboardX")
def test_tensorboard_gets_the_same_scalars(tmp_path):
    pytest.importorskip("tensorboardX", reason="pip install tensorboardX, the extra [tensorboard]")
    writer = MetricWriter(tmp_path, last_step=0, tensorboard=True)
    writer.write_hparams({"seed": 3})
    writer.write_scalars(4, {"train/loss": 0.25})
    writer.flush()
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_tensorboard_without_its_package_costs_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"train\.tensorboard: tensorboardX is not installed; pip install"):
        MetricWriter(tmp_path, last_step=0, tensorboard=True)
