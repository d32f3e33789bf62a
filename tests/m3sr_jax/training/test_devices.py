"""One run on one device, on two devices in each of two processes, and on eight devices is the same run."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from small_m3sr import STEPS, losses

from m3sr_jax.cli import main
from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.training.devices import Devices, memory_errors_as_input_errors
from m3sr_jax.training.loop import train_and_evaluate
from m3sr_jax.training.metric_writer import read_metrics

ROOT = Path(__file__).parents[3]
TOY = Path(__file__).with_name("toy_config.py")
NUM_STEPS = 60
PATIENCE_SECONDS = 300
# Sums in another order, over 60 steps.
LOSS_TOLERANCE, SCORE_TOLERANCE = 1e-6, 1e-5
# `train.py` whose process 1 gets a SIGTERM at step 12: a signal from here could come after the last step.
STOPPED_TRAINING = """
import os, runpy, signal, jax
from m3sr_jax.training import loop

next_batch = loop._next_batch

def stop_process_1(run, stop):
    if run.step == 12 and jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return next_batch(run, stop)

loop._next_batch = stop_process_1
runpy.run_path("train.py", run_name="__main__")
"""
# `m3sr` as it is typed, in a process that knows the toy.
M3SR = ["-c", "import sys, toy_config; from m3sr_jax.cli import main; sys.exit(main(sys.argv[1:]))"]


@pytest.fixture
def start():
    """Starts a Python command that sees `devices` devices, as each of several processes if there is more than one."""
    running = []

    def start(command, devices, processes=1) -> list[subprocess.Popen]:
        env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        env["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", TOY.parent)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        for index in range(processes):
            flags = [f"--coordinator_address={address}", f"--num_processes={processes}", f"--process_id={index}"]
            arguments = [sys.executable, *map(str, command), *(flags if processes > 1 else [])]
            running.append(subprocess.Popen(arguments, cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True))
        return running[-processes:]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def finish(processes) -> list[tuple[int, str, str]]:
    """Waits, and returns the exit code and the output of each."""
    results = [(*process.communicate(timeout=PATIENCE_SECONDS), process.returncode) for process in processes]
    return [(code, output, errors) for output, errors, code in results]


def scalars(workdir, name) -> dict[int, float]:
    return {record["step"]: record[name] for record in read_metrics(workdir / "metrics.jsonl") if name in record}


def test_stopped_in_two_processes_and_ended_on_eight_devices_it_is_the_run_of_one(toy, start, tmp_path):
    fields = {"data.batch_size": 8, "train.num_steps": NUM_STEPS, "train.eval_every_steps": 20}
    fields |= {"optim.ema_decay": 0.9, "data.root": toy.data.root}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    arguments = ["--config", TOY, "--workdir", tmp_path / "many", *overrides]

    pair = start(["-c", STOPPED_TRAINING, *arguments], devices=2, processes=2)
    (first, told, errors), (second, nothing, _) = finish(pair)
    assert (first, second) == (130, 130), errors
    assert "device   4 × cpu (cpu) in 2 processes" in told
    assert f"stopped and saved at step {max(scalars(tmp_path / 'many', 'train/loss'))} of {NUM_STEPS}" in told
    # Gloo's threads write pieces of lines, which may mix.
    assert [line for line in nothing.splitlines() if "[Gloo]" not in line and "peer ranks" not in line] == []

    ((code, told, errors),) = finish(start(["train.py", *arguments, "--config.optim.accumulate_steps=1"], devices=8))
    assert code == 0, errors
    assert "8 × cpu" in told
    assert "resuming from step" in told

    data, train = {"batch_size": 8}, {"num_steps": NUM_STEPS, "eval_every_steps": 20}
    alone = dataclasses.replace(
        toy,
        data=dataclasses.replace(toy.data, **data),
        train=dataclasses.replace(toy.train, **train),
        optim=dataclasses.replace(toy.optim, ema_decay=0.9),
    )
    assert train_and_evaluate(alone, tmp_path / "one") == 0
    card = json.loads((tmp_path / "many" / "model.json").read_text())
    assert card["provenance"]["ema_decay"] == 0.9
    steps = [record["step"] for record in read_metrics(tmp_path / "many" / "metrics.jsonl") if "train/loss" in record]
    assert steps == list(range(1, NUM_STEPS + 1))
    for name, tolerance in (("train/loss", LOSS_TOLERANCE), ("eval/psnr", SCORE_TOLERANCE)):
        assert scalars(tmp_path / "many", name) == pytest.approx(scalars(tmp_path / "one", name), rel=tolerance)


def test_two_processes_make_one_report_with_the_scores_of_one(finished, start, tmp_path):
    arguments = ["evaluate", "--checkpoint", str(finished), "--output"]
    assert main([*arguments, str(tmp_path / "one.json")]) == 0
    results = finish(start([*M3SR, *arguments, tmp_path / "two.json"], devices=1, processes=2))
    assert [code for code, _, _ in results] == [0, 0], results
    assert ["least squares" in output for _, output, _ in results] == [True, False]
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    for name in ("mean", "scenes", "band_rmse"):
        assert one[name] == two[name]


def test_two_processes_predict_a_folder_and_both_tell_of_a_bad_photo(finished, start, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        codes = np.random.default_rng(i).integers(0, 256, (16, 24, 3)).astype(np.uint8)
        Image.fromarray(codes).save(photos / f"{i}.png")
    arguments = ["predict", str(photos), "--checkpoint", str(finished), "--format", "npz", "--output"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    (photos / "bad.jpg").write_bytes(b"not a photo")
    results = finish(start([*M3SR, *arguments, tmp_path / "two"], devices=1, processes=2))
    for code, output, errors in results:
        assert code == 2, errors
        assert output.count(" pixels in ") in (1, 2)
        assert errors.startswith("error: 1 of 4 photos failed, the others are done: ")
    for i in range(3):
        one, two = (read_cube(tmp_path / folder / f"{i}.npz")[0] for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)


def test_m3sr_in_two_processes_has_the_losses_of_one(start):
    pair = start(["tests/small_m3sr.py"], devices=1, processes=2)
    alone = losses()
    results = finish(pair)
    for code, output, errors in results:
        assert code == 0, errors
        assert json.loads(output.splitlines()[-1]) == pytest.approx(alone, rel=LOSS_TOLERANCE)
    assert len(alone) == STEPS
    assert alone[-1] < 0.9 * alone[0]


def test_a_batch_that_devices_cannot_share_equally_costs_one_line(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(process_index=0, id=i) for i in range(4)])
    with pytest.raises(InputError, match=r"found 12, expected a multiple of 8 \(4 devices × .*accumulate_steps 2\)"):
        Devices(12, accumulate_steps=2)


def test_too_little_memory_is_bad_input_and_other_failures_are_not():
    told = r"^evaluation: too little memory \(MemoryError\); use less$"
    with pytest.raises(InputError, match=told), memory_errors_as_input_errors("evaluation", "use less"):
        raise MemoryError
    fault = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(jax.errors.JaxRuntimeError), memory_errors_as_input_errors("evaluation", "use less"):
        raise fault
