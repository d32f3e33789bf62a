"""What makes a process one of several, and what is refused before it waits for the others."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jax
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.processes import gather, join, local_indices, on_writer, start_jax, writer_first, writer_only

ROOT = Path(__file__).parents[2]
SOURCES = os.pathsep.join(map(str, (ROOT, ROOT / "kernels")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("localhost:1234", 2, None), "found some, expected all three or none"),
        (("localhost:1234", 2, 2), "--process_id: found 2, expected 0 to 1"),
        (("localhost", 2, 0), "--coordinator_address: found localhost, expected HOST:PORT"),
    ],
)
def test_flags_that_contradict_each_other_cost_one_line(given, told):
    with pytest.raises(InputError, match=told):
        join(*given)


@pytest.mark.parametrize(("tasks", "joined"), [(None, 0), ("1", 0), ("4", 1)])
def test_only_a_slurm_step_of_several_tasks_needs_no_flags(monkeypatch, tasks, joined):
    calls = []
    monkeypatch.setenv("SLURM_NTASKS", "4")  # as in an allocation, whose shell is a single process
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    if tasks is not None:
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: calls.append(given))
    join()
    assert calls == [(None, None, None)] * joined


def test_the_tasks_of_a_slurm_step_find_each_other():
    """As srun starts them, told by the environment alone; what SLURM itself would do is left out."""
    program = (
        "import jax; from m3sr_jax.processes import *; join(); owned = writer_only(lambda: {'a': 7}); "
        "print(gather(lambda: (jax.process_index(), [*local_indices(5)], owned.get('a'))))"
    )
    # JAX derives the port from the job's number.
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}
    step |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    tasks = [
        subprocess.Popen(
            command, env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}, stdout=-1, text=True
        )
        for rank in ("0", "1")
    ]
    told = [task.communicate(timeout=120)[0].strip().splitlines()[-1] for task in tasks]
    assert told == ["[(0, [0, 2, 4], 7), (1, [1, 3], None)]"] * 2


def test_alone_a_process_does_everything_itself():
    assert list(local_indices(3)) == [0, 1, 2]
    assert gather(lambda: 5) == [5]
    assert on_writer(lambda: 6) == writer_first(lambda: 6) == writer_only(lambda: 6) == 6


@pytest.mark.parametrize("command", ["train.py", "evaluate", "predict", "inspect", "convert", "export", "score"])
def test_without_the_wanted_device_every_command_says_so_in_one_line(command, tmp_path):
    for path in ("a.mat", "b.mat"):
        (tmp_path / path).touch()
    arguments = {
        "evaluate": ["--checkpoint", "x", "--dataset", "cave"],
        "predict": [str(ROOT / "benchmarks" / "results" / "demo.png"), "--checkpoint", "x", "--output", "y"],
        "inspect": [],
        "convert": ["a.mat", "y"],
        "export": ["--checkpoint", "x", "--output", "y"],
        "score": ["a.mat", "b.mat"],
    }
    program = [str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "demo.py")]
    if command != "train.py":
        program = ["-c", "import sys; from m3sr_jax.cli import main; sys.exit(main())", command, *arguments[command]]
    told = _refusal(program, tmp_path, JAX_PLATFORMS="cuda", PYTHONPATH=SOURCES)
    assert told.startswith("error: JAX_PLATFORMS=cuda: JAX finds no such device; install its plugin")


def test_an_accelerator_plugin_of_another_version_costs_one_line(tmp_path):
    plugin = tmp_path / "jax_plugins" / "xla_cuda12"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("def initialize():\n    raise RuntimeError('Outdated cuDNN\\ninstallation')\n")
    program = ["-c", "import sys; from m3sr_jax.cli import main; sys.exit(main())", "inspect"]
    path = os.pathsep.join([str(tmp_path), SOURCES])
    told = _refusal(program, tmp_path, JAX_PLATFORMS="", PYTHONPATH=path)
    assert told.startswith("error: an accelerator plugin of JAX does not start (Outdated cuDNN installation); install")
    command = [sys.executable, "-c", "from m3sr_jax.processes import start_jax; start_jax()"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cuda_plugin_that_jaxlib_would_ignore_is_refused(monkeypatch):
    versions = {"jaxlib": "0.10.2", "jax-cuda12-plugin": "0.9.1"}

    def version(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr("m3sr_jax.processes.version", version)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    with pytest.raises(InputError, match=r"jax-cuda12-plugin 0\.9\.1 is installed beside jaxlib 0\.10\.2"):
        start_jax()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    start_jax()


def _refusal(program, cwd, **variables):
    command = [sys.executable, *program]
    done = subprocess.run(command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr
