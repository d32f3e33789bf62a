"""Kills a tiny training at random moments, resumes it, and compares every number with an undisturbed run.

    python tools/stress_resume.py [--kills 50] [--seed 0] [--output FILE]

SIGKILL, SIGTERM and SIGINT alternate. Half of them arrive at a random time, half while one of the next eight
checkpoints is being written. The process is frozen before each signal to record what the signal interrupts. When a run
ends, all its logged numbers and the checksum of its last state are compared, and a new run starts. A control at the end
shows that the comparison detects errors: it resumes one stopped run unchanged, and from slightly altered states.

Every training is forked from a process that has imported everything but has not started JAX. The exit code is 1 if a
number differs, a file is left over or an altered state goes undetected.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script has only its own folder there

from benchmarks.measure import parser, save, show

TOY = Path(__file__).parents[1] / "tests" / "m3sr_jax" / "training" / "toy_config.py"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NUM_STEPS = 40
EXPECTED = {".lock", "config.json", "model.json", "metrics.jsonl", "report", "checkpoints"}
MAX_CHECKPOINTS = {"latest": 2, "best": 1}
UNFINISHED = "-tmp"  # in the name of a checkpoint that is being written
# What the training does in each of these functions; before the first of them it is starting.
PHASES = {
    "_train": "training",
    "_evaluate": "evaluating",
    "_save": "copying a state to save",
    "_report": "reporting",
    "close": "closing",
}
PHASE = mmap.mmap(-1, 1)  # shared with the forked processes


@dataclasses.dataclass
class Tally:
    """Results so far: kills by signal and by what they interrupted, and failures."""

    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    hit: Counter[str] = dataclasses.field(default_factory=Counter)
    unfinished_left: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


def main() -> None:
    """Runs once undisturbed, then with kills until all are used and the last run has ended, then the control."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    arguments = options.parse_args()
    draw, started, tally = random.Random(arguments.seed), time.monotonic(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        root, runs, compared = Path(folder), 0, 0
        finish(start(root, "undisturbed"))  # also creates the scenes
        timed_start = time.monotonic()
        finish(start(root, "timed"))
        duration, expected = time.monotonic() - timed_start, numbers(root / "undisturbed")
        while tally.kills.total() < arguments.kills:
            runs += 1
            kill_until_done(root, f"run{runs}", draw, duration, arguments.kills, tally)
            found = numbers(root / f"run{runs}")
            compared += sum(map(len, found))
            tally.failures += [] if found == expected else [f"run {runs}: numbers differ"]
        control = resume_altered(root, expected)
    for change, differing in control.items():
        if (differing == 0) != (change == "nothing"):
            tally.failures.append(f"resumed with {change} changed: {differing} numbers differ")
    row = {"kills": dict(tally.kills), "hit": dict(tally.hit), "unfinished_left": tally.unfinished_left, "runs": runs}
    row |= {"steps_a_run": NUM_STEPS, "numbers_compared": compared, "differing_when_changed": control}
    row |= {"failures": tally.failures, "seconds": round(time.monotonic() - started, 1)}
    show(row)
    save([row], "stress_resume", arguments.output)
    sys.exit(1 if tally.failures else 0)


def kill_until_done(root: Path, name: str, draw: random.Random, duration: float, kills: int, tally: Tally) -> None:
    """Starts one run again and again until it ends, with one kill a start while kills are left."""
    workdir = root / name
    while True:
        count, hit = tally.kills.total(), ""
        is_moment, kind = draw_moment(draw, workdir, duration, writing=count % 2 == 1), SIGNALS[count % len(SIGNALS)]
        child = start(root, name)
        if count < kills and reached(child, is_moment):
            hit = kill(child, kind, workdir)
        code = finish(child)
        if hit and (code < 0 or code == 130):
            tally.kills[kind.name] += 1
            tally.hit[hit] += 1
            tally.unfinished_left += "in writing" in hit and bool(unfinished(workdir))
        if code not in {0, 130, -signal.SIGKILL}:
            tally.failures.append(f"{name}: exit code {code} after {kind.name}")
            return
        tally.failures += unexpected_files(workdir, killed=code != 0)
        if code == 0:
            return


def kill(child: int, kind: signal.Signals, workdir: Path) -> str:
    """Freezes the process, sees what it is doing, and sends the signal; returns what the signal interrupted."""
    os.kill(child, signal.SIGSTOP)
    os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    phase = ("starting", *PHASES.values())[PHASE[0]]
    # While the process starts, unfinished checkpoints are those of an earlier kill.
    kinds = sorted({path.parent.name for path in unfinished(workdir)}) if PHASE[0] else []
    os.kill(child, kind)
    os.kill(child, signal.SIGCONT)
    return f"{phase}, {' and '.join(kinds)} in writing" if kinds else phase


def resume_altered(root: Path, expected: list[dict[str, float]]) -> dict[str, int]:
    """Stops a run halfway and resumes altered copies of it; returns what was changed → how many numbers differ."""
    child = start(root, "stopped")
    while not list((root / "stopped").glob(f"checkpoints/latest/{NUM_STEPS // 2}")):
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    finish(child)
    result = {}
    for name, change in CHANGES.items():
        shutil.copytree(root / "stopped", root / name)
        finish(start(root, name, change))
        pairs = zip(expected, numbers(root / name), strict=True)
        result[name] = sum(found.get(key) != value for wanted, found in pairs for key, value in wanted.items())
    return result


def flip_bit(tree: Any, bit: int) -> Any:
    """Flips one bit (0 is the lowest) of the first number in the last float32 array."""
    import jax
    import numpy as np

    leaves, structure = jax.tree.flatten(tree)
    last = max(i for i, leaf in enumerate(leaves) if leaf.dtype == np.float32)
    changed = np.array(leaves[last])
    changed.view(np.uint32).flat[0] ^= 1 << bit
    leaves[last] = jax.numpy.array(changed)
    return jax.tree.unflatten(structure, leaves)


def next_batch(run: dict[str, Any]) -> dict[str, Any]:
    """Advances the data position by one batch."""
    return run | {"batches": {"next_batch": run["batches"]["next_batch"] + 1}}


# What is changed → function from the restored state and run to those that training continues from.
CHANGES: dict[str, Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]] = {
    "nothing": lambda state, run: (state, run),
    "lowest bit of a parameter": lambda state, run: (state.replace(params=flip_bit(state.params, 0)), run),
    "bit 16 of a second moment": lambda state, run: (state.replace(opt_state=flip_bit(state.opt_state, 16)), run),
    "data position by one": lambda state, run: (state, next_batch(run)),
}


def start(root: Path, name: str, change: Callable | None = None) -> int:
    """Forks a training in `root`/`name` and returns its process id; `change` alters the state it resumes from."""
    # Imported once, before the fork: JAX starts no threads until something asks for a device.
    from m3sr_jax.cli import exit_code
    from m3sr_jax.config import load_config
    from m3sr_jax.training import loop
    from m3sr_jax.training.checkpoint import Checkpoints, quiet_orbax

    quiet_orbax()
    PHASE[0] = 0
    child = os.fork()
    if child:
        return child
    with (root / f"{name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for number, function in enumerate(PHASES, 1):
        owner = Checkpoints if function == "close" else loop
        setattr(owner, function, recording_phase(number, getattr(owner, function)))
    if change is not None:
        Checkpoints.restore_latest = altering(Checkpoints.restore_latest, change)
    config = load_config(TOY)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(root / "scenes")),
        train=dataclasses.replace(config.train, num_steps=NUM_STEPS, checkpoint_every_steps=2, eval_every_steps=10),
    )
    code = exit_code(lambda: loop.train_and_evaluate(config, root / name))
    os._exit(code)


def altering(restore: Callable, change: Callable) -> Any:
    """`Checkpoints.restore_latest`, with `change` applied to its result."""

    def restore_and_alter(checkpoints: Any, template: Any) -> Any:
        state, run, damaged = restore(checkpoints, template)
        return *change(state, run), damaged

    return restore_and_alter


def recording_phase(number: int, function: Callable) -> Callable:
    """The function, with `PHASE` set to its number while it runs."""

    def recorded(*arguments: Any) -> Any:
        previous, PHASE[0] = PHASE[0], number
        try:
            return function(*arguments)
        finally:
            PHASE[0] = previous

    return recorded


def unfinished(workdir: Path) -> list[Path]:
    """Checkpoints that are not complete yet."""
    return list(workdir.glob(f"checkpoints/*/*{UNFINISHED}*"))


def finish(child: int) -> int:
    """Waits for a process; returns its exit code, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reached(child: int, is_moment: Callable[[], bool]) -> bool:
    """Waits for a moment; returns False if the process ends first."""
    while not is_moment():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.001)
    return True


def draw_moment(draw: random.Random, workdir: Path, duration: float, *, writing: bool) -> Callable[[], bool]:
    """Draws a random time, or the writing of one of the next eight checkpoints; returns a test for that moment."""
    if not writing:
        moment = time.monotonic() + draw.uniform(0, duration)
        return lambda: time.monotonic() >= moment
    seen, count = set(unfinished(workdir)), draw.randint(1, 8)  # an earlier kill may have left one
    count += len(seen)

    def is_moment() -> bool:
        now = unfinished(workdir)
        seen.update(now)
        return bool(now) and len(seen) >= count

    return is_moment


def unexpected_files(workdir: Path, *, killed: bool) -> list[str]:
    """Returns what should not be there; a kill may leave up to three unfinished files until the next start."""
    if not workdir.is_dir():
        return []
    found = [path for path in workdir.iterdir() if path.name not in EXPECTED]
    found += list(workdir.glob("report/.*"))
    for kind, count in MAX_CHECKPOINTS.items():
        entries = sorted((workdir / "checkpoints" / kind).glob("*"))
        complete = [path for path in entries if path.name.isdigit()]
        found += [path for path in entries if not path.name.isdigit()] + complete[: max(0, len(complete) - count)]
    allowed = 3 if killed else 0
    names = ", ".join(str(path.relative_to(workdir)) for path in found)
    return [f"{workdir.name}: unexpected files {names}"] if len(found) > allowed else []


def numbers(workdir: Path) -> list[dict[str, float]]:
    """The numbers in metrics.jsonl, apart from the speed, and the checksum of the last state."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = json.loads((workdir / f"checkpoints/latest/{NUM_STEPS}/run/metadata").read_text())
    logged = [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]
    return [*logged, {"crc32": last["crc32"]}]


if __name__ == "__main__":
    main()
