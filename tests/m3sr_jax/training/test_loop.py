"""The loop's promises: it learns, resumes exactly, stops in time and refuses what would spoil a run."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.checkpoint import load_model, load_params, save_model, saved_steps
from m3sr_jax.config import Config
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.pipeline import Batches, train_batches
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.protocols import METRICS
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, parameter_shapes
from m3sr_jax.networks import NETWORKS, Network
from m3sr_jax.training import fitting, loop, setup
from m3sr_jax.training.checkpoint import Checkpoints
from m3sr_jax.training.loop import train_and_evaluate
from m3sr_jax.training.losses import mae
from m3sr_jax.training.metric_writer import read_metrics
from m3sr_jax.training.validation import Validation


def changed(config: Config, group: str, **fields) -> Config:
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **fields)})


def without_timings(workdir) -> list[dict]:
    records = read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]


def changed_batches(step, change):
    """Returns a `train_batches` whose batch before step `step` is changed in place, or fails."""

    class Changed(Batches):
        def __next__(self):
            batch = super().__next__()
            if self.get_state() == {"next_batch": step}:
                change(batch)
            return batch

    def open_batches(*args, **options):
        batches = train_batches(*args, **options)
        batches.__class__ = Changed
        return batches

    return open_batches


def test_a_run_learns_and_leaves_what_it_promises(finished):
    records = read_metrics(finished / "metrics.jsonl")
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert len(losses) == 24
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    assert [record["step"] for record in records if "eval/psnr" in record] == [8, 16, 24]
    baselines = [record for record in records if "baseline/least_squares/psnr" in record]
    assert len(baselines) == 1
    fits = ("least_squares", "least_squares_quadratic")
    assert set(baselines[0]) >= {"step"} | {f"baseline/{fit}/{metric}" for fit in fits for metric in METRICS}
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "config.json",
        "model.json",
        "checkpoints",
        "metrics.jsonl",
        "report",
    }
    assert (finished / "report" / "reconstruction.png").stat().st_size > 10_000


def test_it_logs_the_rate_that_the_step_used(finished):
    records = read_metrics(finished / "metrics.jsonl")
    rates = [record["train/learning_rate"] for record in records if "train/loss" in record]
    assert rates == pytest.approx([1e-3 * (1 + np.cos(np.pi * i / 24)) for i in range(24)], rel=1e-5)
    assert all(record["train/images_per_second"] > 0 for record in records if "train/loss" in record)


def test_best_is_the_checkpoint_of_the_best_psnr(finished, toy):
    scores = {r["step"]: r["eval/psnr"] for r in read_metrics(finished / "metrics.jsonl") if "eval/psnr" in r}
    model, params, card = load_model(finished, "best")
    validation = Validation(model, open_dataset(toy.data))
    assert validation.score(validation.predictor(params))["psnr"] == max(scores.values())
    assert card.provenance["dataset"] == "synthetic"
    assert card.camera == "cie1964"
    assert card.wavelengths == tuple(range(400, 701, 10))


def test_a_finished_run_does_nothing_but_mend_its_report(finished, toy, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    assert train_and_evaluate(toy, workdir) == 0
    assert "finished: all 24 steps are done" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before

    for name in ("report.json", "reconstruction.png"):
        (workdir / "report" / name).unlink()
        assert train_and_evaluate(toy, workdir) == 0
        assert (workdir / "report" / name).exists()


def test_stopped_in_an_evaluation_it_resumes_as_if_never_stopped(finished, toy, tmp_path, monkeypatch, capsys):
    workdir, evaluate, stops = tmp_path / "run", loop._evaluate, []

    def stop_once(run, stop):
        if run.step == 16 and not stops:
            stops.append(run.step)
            stop.requested = True
            stop.check()
        evaluate(run, stop)

    monkeypatch.setattr(loop, "_evaluate", stop_once)
    assert train_and_evaluate(toy, workdir) == 130
    assert "stopped and saved at step 16 of 24" in capsys.readouterr().out
    assert not (workdir / "report").exists()
    assert train_and_evaluate(toy, workdir) == 0
    assert "resuming from step 16" in capsys.readouterr().out
    assert stops == [16]
    assert without_timings(workdir) == without_timings(finished)
    for which in ("best", "latest"):
        ours, theirs = load_model(workdir, which)[1], load_model(finished, which)[1]
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_resumed_it_drops_the_paths_that_it_would_have_dropped(toy, tmp_path, monkeypatch):
    class Dropping(nn.Module):
        num_bands: int = 31

        @nn.compact
        def __call__(self, rgb):
            cube = nn.Conv(self.num_bands, (1, 1))(rgb)
            return nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(cube)

    seeds, jit_train_step = [], setup.jit_train_step
    monkeypatch.setitem(NETWORKS, "toy", Network("dropping", Dropping))
    monkeypatch.setattr(
        setup,
        "jit_train_step",
        lambda *args, **options: seeds.append(options["seed"]) or jit_train_step(*args, **options),
    )
    config = changed(dataclasses.replace(toy, seed=5), "train", num_steps=8)
    assert train_and_evaluate(config, tmp_path / "whole") == 0
    resumed = shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(resumed / "checkpoints" / "latest" / "8")
    assert train_and_evaluate(config, resumed) == 0
    assert without_timings(resumed) == without_timings(tmp_path / "whole")
    assert seeds == [5, 5]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(toy, tmp_path, monkeypatch):
    def poison(batch):
        batch["cube"][0, 0, 0, 0] = np.nan

    monkeypatch.setattr(fitting, "train_batches", changed_batches(7, poison))
    with pytest.raises(InputError, match=r"step 7: found loss nan .* the checkpoint of step 5 is kept"):
        train_and_evaluate(toy, tmp_path)
    losses = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in r]
    assert losses == [1, 2, 3, 4, 5, 6]
    params = load_model(tmp_path, "latest")[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_data_workers_that_an_interruption_ends_are_no_failure(toy, tmp_path, monkeypatch):
    def end_workers(batch):
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("worker terminated")

    monkeypatch.setattr(fitting, "train_batches", changed_batches(4, end_workers))
    assert train_and_evaluate(toy, tmp_path) == 130
    assert saved_steps(tmp_path / "checkpoints" / "latest") == [3]


def test_data_workers_that_end_twice_in_a_row_cost_one_line(toy, tmp_path, monkeypatch):
    def end(batches):
        raise RuntimeError("worker terminated")

    monkeypatch.setattr(Batches, "__next__", end)
    with pytest.raises(InputError, match=r"the data workers keep ending \(worker terminated\)"):
        train_and_evaluate(toy, tmp_path)


def test_a_killed_data_worker_is_started_again(finished, toy, tmp_path, monkeypatch, capsys):
    def kill_a_worker(batch):
        for worker in multiprocessing.active_children():
            worker.kill()

    monkeypatch.setattr(fitting, "train_batches", changed_batches(4, kill_a_worker))
    assert train_and_evaluate(changed(toy, "data", num_workers=1), tmp_path) == 0
    assert "WARNING  the data workers ended and were restarted" in capsys.readouterr().out
    assert without_timings(tmp_path) == without_timings(finished)


def test_it_does_not_say_that_it_is_saved_before_it_is(toy, tmp_path, monkeypatch, capsys):
    close = Checkpoints.close

    def fail(checkpoints):
        close(checkpoints)
        raise InputError("latest: a checkpoint cannot be written")

    stop = changed_batches(4, lambda batch: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(fitting, "train_batches", stop)
    monkeypatch.setattr(Checkpoints, "close", fail)
    with pytest.raises(InputError, match="a checkpoint cannot be written"):
        train_and_evaluate(toy, tmp_path)
    assert "stopped and saved" not in capsys.readouterr().out


def test_a_signal_after_the_last_step_stops_before_the_report(finished, toy, tmp_path, monkeypatch, capsys):
    workdir, save, sent = tmp_path / "run", loop._save, []

    def save_and_signal(run):
        save(run)
        if run.step == run.num_steps and not sent:
            sent.append(run.step)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "_save", save_and_signal)
    assert train_and_evaluate(toy, workdir) == 130
    assert "stopped and saved at step 24 of 24; run the same command to resume" in capsys.readouterr().out
    assert not (workdir / "report").exists()
    assert train_and_evaluate(toy, workdir) == 0
    assert without_timings(workdir) == without_timings(finished)
    assert (workdir / "report" / "report.json").exists()


def test_a_run_that_begins_again_writes_its_report_anew(finished, toy, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints")
    report = workdir / "report" / "report.json"
    report.write_text(report.read_text().replace('"psnr"', '"of before"'))
    assert train_and_evaluate(toy, workdir) == 0
    ours, theirs = (json.loads(path.read_text()) for path in (report, finished / "report" / "report.json"))
    assert ours["mean"] == theirs["mean"]


@pytest.mark.parametrize("failure", [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), MemoryError()])
def test_too_little_memory_costs_one_line_that_says_what_takes_less(toy, tmp_path, monkeypatch, failure):
    def jit_train_step(*args, **options):
        step = train_step(*args, **options)

        def fail_at_seven(state, batch):
            if int(state.step) == 6:
                raise failure
            return step(state, batch)

        return fail_at_seven

    train_step = setup.jit_train_step
    monkeypatch.setattr(setup, "jit_train_step", jit_train_step)
    with pytest.raises(InputError, match=r"too little memory \(.*optim\.accumulate_steps.*data\.batch_size") as caught:
        train_and_evaluate(toy, tmp_path)
    assert "\n" not in str(caught.value)
    assert saved_steps(tmp_path / "checkpoints" / "latest") == [5]


def test_scenes_that_cannot_be_read_stop_the_run_or_are_skipped_and_counted(toy, tmp_path, monkeypatch, capsys):
    from m3sr_jax.data.scenes import SceneSource

    read = SceneSource.coded_window

    def fail_on_one(scenes, index, *window):
        if index == 1 and len(scenes) == 3:  # of the three to train on
            raise InputError("scene_001.mat: cannot be read")
        return read(scenes, index, *window)

    monkeypatch.setattr(SceneSource, "coded_window", fail_on_one)
    with pytest.raises(InputError, match=r"^scene_001\.mat: cannot be read$"):
        train_and_evaluate(toy, tmp_path / "stop")
    config = changed(changed(toy, "data", on_bad_scene="skip"), "train", num_steps=12)
    assert train_and_evaluate(config, tmp_path / "skip") == 0
    printed = capsys.readouterr().out
    assert printed.count("is skipped, crops of other scenes replace its own: scene_001.mat: cannot be read") == 1
    records = read_metrics(tmp_path / "skip" / "metrics.jsonl")
    assert [r["train/skipped_crops"] for r in records if "train/skipped_crops" in r][-1] in range(4, 13)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")  # TensorStore gives up a little later
def test_a_full_disk_costs_one_line_and_the_run_resumes_once_there_is_space(finished, toy, small_disk):
    filler = small_disk / "filler"

    def fill(batch):
        filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 4096))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "train_batches", changed_batches(7, fill))
        with pytest.raises(InputError, match="free some space and run the same command to resume") as caught:
            train_and_evaluate(toy, small_disk / "run")
    assert "\n" not in str(caught.value)
    filler.unlink()
    assert train_and_evaluate(toy, small_disk / "run") == 0
    assert without_timings(small_disk / "run") == without_timings(finished)


def test_it_can_start_from_another_model(finished, toy, tmp_path):
    config = changed(toy, "train", init_from=str(finished), num_steps=1)
    with pytest.raises(InputError, match="no such directory"):  # and the folder is free for the corrected command
        train_and_evaluate(changed(config, "train", init_from="nowhere"), tmp_path / "run")
    assert train_and_evaluate(config, tmp_path / "run") == 0
    model = build_model(toy.model)
    source = open_dataset(toy.data).train
    batches = train_batches(source, batch_size=2, crop_size=16, seed=toy.seed)
    batch = next(batches)
    batches.close()
    prediction = model.apply({"params": load_params(finished, model)}, jnp.asarray(batch["rgb"]))
    (first,) = [r["train/loss"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in r]
    assert first == pytest.approx(float(mae(prediction, jnp.asarray(batch["cube"]))), rel=1e-6)


def test_another_configuration_is_refused_field_by_field(finished, toy):
    config = changed(changed(toy, "optim", learning_rate=1e-4), "train", num_steps=30, log_every_steps=7)
    with pytest.raises(
        InputError, match=r"optim\.learning_rate: 0\.002 → 0\.0001; train\.num_steps: 24 → 30\)"
    ) as caught:
        train_and_evaluate(config, finished)
    assert "log_every_steps" not in str(caught.value)


def test_other_data_are_refused(finished, toy, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(setup, "data_fingerprint", lambda dataset: "others")
    with pytest.raises(InputError, match="the data have changed"):
        train_and_evaluate(toy, workdir)


def test_a_converted_model_is_no_run_to_resume(toy, tmp_path):
    shapes = parameter_shapes(build_model(toy.model))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    save_model(tmp_path / "model", ModelCard(toy.model, tuple(map(float, range(400, 701, 10)))), params)
    told = rf"holds a model that no training run wrote; .* --config\.train\.init_from={tmp_path}/model to start from it"
    with pytest.raises(InputError, match=told):
        train_and_evaluate(toy, tmp_path / "model")
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_a_damaged_checkpoint_costs_one_line(finished, toy, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    for step in (20, 24):
        shutil.rmtree(workdir / "checkpoints" / "latest" / str(step) / "optimizer")
    with pytest.raises(InputError, match=r"no checkpoint can be restored \(step 24: ") as caught:
        train_and_evaluate(toy, workdir)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_made_again_from_the_one_before(finished, toy, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "latest" / "24" / "optimizer")
    assert train_and_evaluate(toy, workdir) == 0
    printed = capsys.readouterr().out
    assert "WARNING  deleted a damaged checkpoint: " in printed
    assert "resuming from step 20" in printed
    assert without_timings(workdir) == without_timings(finished)


def test_bands_must_be_those_of_the_data(toy, tmp_path):
    with pytest.raises(InputError, match=r"model\.num_bands: found 28, expected 31"):
        train_and_evaluate(changed(toy, "model", num_bands=28), tmp_path)


def test_scans_that_do_not_run_here_cost_one_line(toy, tmp_path):
    config = changed(toy, "model", name="m3sr", implementation="pallas_mosaic")
    with pytest.raises(InputError, match=r"model\.implementation: .*pallas_mosaic"):
        train_and_evaluate(config, tmp_path)


def test_a_workdir_that_cannot_be_made_costs_one_line(toy, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not usable"):
        train_and_evaluate(toy, tmp_path / "file" / "run")
