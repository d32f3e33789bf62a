"""What a run tells its user."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from m3sr_jax.training import messages
from m3sr_jax.training.setup import Run


@pytest.fixture
def run(toy, dataset, tmp_path):
    run = object.__new__(Run)  # without opening anything
    run.__dict__.update(
        config=toy,
        dataset=dataset,
        state=SimpleNamespace(params={"kernel": np.zeros((300, 10)), "bias": np.zeros(10)}),
        scans="xla",
        devices=SimpleNamespace(describe=lambda: "cpu (cpu)"),
        workdir=tmp_path,
        damaged=[],
        notes=[],
        step=0,
        num_steps=24,
    )
    return run


def greeting(run):
    return "\n".join(messages.greeting(run))


def test_a_new_run_names_model_device_data_and_steps(run, tmp_path):
    lines = greeting(run).splitlines()
    assert lines == [
        "model    toy, 3,010 parameters, float32, products in float32, scans: xla",
        lines[1],
        "data     synthetic: 5 training and 3 held-out scenes, 31 bands of 400-700 nm, camera thirds",
        f"workdir  {tmp_path}",
        "steps    24, a new run",
    ]
    assert lines[1].startswith("device   cpu (cpu), jax ")


def test_it_says_what_to_watch_out_for(run):
    run.dataset = dataclasses.replace(
        run.dataset, name="ntire2022", missing=("scene ARAD_1K_0007", "scene ARAD_1K_0009")
    )
    run.damaged, run.notes, run.step = ["latest/8: empty"], ["init_from runs/a: 16 bands there"], 5
    told = greeting(run)
    assert "WARNING  2 files or scenes of the official split are missing, the first is scene ARAD_1K_0007" in told
    assert "`m3sr prepare` makes batches 20 times as fast" in told
    assert "WARNING  deleted a damaged checkpoint: latest/8: empty" in told
    assert "note     init_from runs/a: 16 bands there" in told
    assert "steps    24, resuming from step 5" in told
    run.step = 24
    assert greeting(run).endswith("finished: all 24 steps are done")


def test_it_warns_of_cubes_in_another_unit(run, dataset):
    read = dataset.train.read
    dataset.train.read = lambda index: dataclasses.replace(read(index), unit=10.0)
    assert "WARNING  scene train0: values above 1 in the cube" in greeting(run)


def test_a_diverged_run_says_what_is_kept_and_what_to_try():
    told = messages.not_finite(7, float("nan"), 1.0, 5)
    assert told.startswith("step 7: found loss nan and gradient norm 1.0, expected finite numbers;")
    assert "the checkpoint of step 5 is kept" in told
    assert "lower optim.learning_rate" in told
    assert "no checkpoint was saved yet" in messages.not_finite(7, 1.0, float("inf"), None)
