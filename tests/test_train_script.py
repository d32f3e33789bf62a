"""`python train.py` as a user runs it: killed, interrupted, mistyped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from m3sr_jax.checkpoint import load_params
from m3sr_jax.cli.flags import default_workdir
from m3sr_jax.config import load_config
from m3sr_jax.models import build_model

ROOT = Path(__file__).parents[1]
TOY = Path(__file__).parent / "m3sr_jax" / "training" / "toy_config.py"
NUM_STEPS = 60
PATIENCE_SECONDS = 600


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `python train.py` on the toy configuration, with scenes made once."""
    scenes = tmp_path_factory.mktemp("scenes")
    fields = {"data.root": scenes, "train.num_steps": NUM_STEPS, "train.eval_every_steps": 20}

    running = []

    def start(workdir, *flags) -> subprocess.Popen:
        overrides = [f"--config.{name}={value}" for name, value in fields.items()]
        command = [sys.executable, "train.py", "--config", str(TOY), "--workdir", str(workdir), *overrides, *flags]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    process = start(workdir)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    assert errors == ""  # libraries log for themselves only with --verbosity=0
    return workdir


def lines(workdir) -> list[dict]:
    """The lines of metrics.jsonl, but for the one figure that is about time."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]


def signal_at(process, workdir, step, number) -> None:
    """Sends a signal once `step` is logged."""
    path, end = workdir / "metrics.jsonl", time.monotonic() + PATIENCE_SECONDS
    while not (path.exists() and f'{{"step": {step},' in path.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(number)


def same_run(workdir, other) -> None:
    assert lines(workdir) == lines(other)
    model = build_model(load_config(TOY).model)
    for which in ("best", "latest"):
        ours, theirs = (load_params(folder, model, which) for folder in (workdir, other))
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_killed_at_any_step_and_run_again_it_logs_the_same_bits(start, uninterrupted, tmp_path):
    step = random.randint(2, NUM_STEPS - 10)
    print("killed at step", step)
    process = start(tmp_path)
    signal_at(process, tmp_path, step, signal.SIGKILL)
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    process.communicate()
    assert len(lines(tmp_path)) < len(lines(uninterrupted))
    process = start(tmp_path)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    # The checkpoint of step 10 is begun only once that of step 5 is on disk.
    assert step <= 10 or "resuming from step" in output
    same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_says_how_to_resume_and_does(start, uninterrupted, tmp_path, number):
    process = start(tmp_path)
    signal_at(process, tmp_path, 12, number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, errors
    assert "run the same command to resume" in output
    saved = max(int(path.name) for path in (tmp_path / "checkpoints" / "latest").iterdir())
    assert saved == lines(tmp_path)[-1]["step"] >= 12
    if number == signal.SIGINT:  # the other one goes the same way
        process = start(tmp_path)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, errors
        assert f"resuming from step {saved}" in output
        same_run(tmp_path, uninterrupted)


def refused(*arguments) -> str:
    """Runs train.py, expects exit code 2 and one line on stderr, and returns it."""
    command = [sys.executable, "train.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--config.train.num_stps=5", "config field train.num_stps: no such field; did you mean train.num_steps?"),
        ("--config.optim.learning_rate=fast", "--config.optim.learning_rate=fast"),
        ("--config.model.num_blocks=1,1", "config field model.num_blocks: found [1, 1], expected three numbers"),
        ("--config.data.crop_size=64", "config field data.crop_size: found 64, expected at most data.scene_size = 32"),
        ("--cnfig.seed=1", "Unknown command line flag 'cnfig.seed'"),
        ("--batch_size=2", "error: Unknown command line flag 'batch_size'; did you mean --config.data.batch_size?"),
        ("--num_processes=x", "error: flag --num_processes=x: invalid literal for int()"),
        ("--config=folder", "error: folder: no such config; expected a path such as configs/folder.py"),
        (
            "--config=configs/cav.py:groups8",
            "error: configs/cav.py: no such config; expected a path such as configs/cave.py",
        ),
        ("stray", "arguments stray: unknown"),
    ],
)
def test_what_cannot_be_used_costs_one_line(tmp_path, flag, told):
    assert told in refused("--config", TOY, "--workdir", tmp_path / "run", flag)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "config.py: no such config; expected a path such as configs/"),
        ("def get_config(:", "error: SyntaxError in the config file"),
        ("x = 1", "get_config"),
        ("def get_config(): return 3", "found a value of type int, expected a ConfigDict"),
        ("def get_config(): return {'modle': {}}", "config field modle: no such field; did you mean model?"),
    ],
)
def test_a_config_file_that_cannot_be_used_costs_one_line(tmp_path, text, told):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert told in refused("--config", path, "--workdir", tmp_path / "run")


def test_an_unknown_variant_costs_one_line(tmp_path):
    told = refused("--config", "configs/ntire2022.py:no_temporal", "--workdir", tmp_path / "run")
    assert "error: config variant no_temporal: no such variant; expected one of no_spatial" in told


def test_a_variant_and_flags_reach_the_run(tmp_path):
    run = tmp_path / "run"
    told = refused("--config", "configs/cave.py:groups8", "--workdir", run, "--config.data.root=nowhere")
    assert 'data.root "nowhere": no such folder' in told
    assert not (run / "config.json").exists()  # so that the corrected command may differ
    (run / "config.json").write_text(load_config("configs/cave.py").to_json())
    told = refused("--config", "configs/cave.py:groups8", "--workdir", run, "--config.seed=5")
    assert "(seed: 0 → 5; model.num_groups: 4 → 8)" in told


def test_an_unwritable_workdir_costs_one_line(tmp_path):
    (tmp_path / "file").touch()
    assert "not usable (Not a directory)" in refused("--config", TOY, "--workdir", tmp_path / "file" / "run")


@pytest.mark.parametrize("workdir", [[], ["--workdir="]])  # such as --workdir=$RUN of a variable that is not set
def test_a_config_alone_names_the_run_and_says_what_belongs_where(tmp_path, workdir):
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "ntire2022.py"), *workdir]
    environment = {name: value for name, value in os.environ.items() if name != "M3SR_DATA"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        'error: data.root "data/ntire2022": no such folder; expected NTIRE 2022 (ARAD_1K) there:'
    )
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert default_workdir("configs/ntire2022.py") == "runs/ntire2022"
    assert default_workdir("/home/u/.pyenv/x/configs/demo.py") == "runs/demo"
    assert default_workdir("/elsewhere/configs/ntire2022.py:no_spatial,groups8") == "runs/ntire2022-no_spatial-groups8"


def test_without_flags_it_tells_its_usage():
    assert "usage: python train.py --config" in refused()


def test_the_shipped_configs_are_valid():
    for path in sorted((ROOT / "configs").glob("*.py")):
        config = load_config(path)
        assert config.model.num_bands == (None if path.name == "folder.py" else 31), path
        assert os.path.basename(path) in path.read_text(), f"{path}: its docstring gives no command"
