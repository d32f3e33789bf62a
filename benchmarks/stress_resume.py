"""Kills a tiny training at random moments, resumes it, and compares every number with an undisturbed run.

    python benchmarks/stress_resume.py [--kills 50] [--seed 0] [--output FILE]

SIGKILL, SIGTERM and SIGINT take turns. Every other one comes at a random time, the others while one of the next eight
checkpoints, drawn at random, is in writing. The process is frozen first, so that the row can tell what each kill hit. A
run that ends is compared, all that it logged and the checksum of its last state, and a new one begun. In the end it is
shown that the comparison notices: one stopped run is resumed as it is, and from states that are wrong by a little.
Starts are forked from a process that has imported everything and asked JAX for nothing yet. Exits with 1 where a number
differs, a file is left over or a wrong state is not noticed.
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

from measure import parser, save, show

TOY = Path(__file__).parents[1] / "tests" / "m3sr_jax" / "training" / "toy_config.py"
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NUM_STEPS = 40
EXPECTED = {".lock", "config.json", "model.json", "metrics.jsonl", "report", "checkpoints"}
MOST_CHECKPOINTS = {"latest": 2, "best": 1}
UNFINISHED = "-tmp"  # in the name of a checkpoint in writing
# What a process does, by the method of the run that it is in; before all of them it starts.
PHASES = {
    "train": "training",
    "_evaluate": "evaluating",
    "_save": "copying a state to save",
    "report": "reporting",
    "close": "closing",
}
PHASE = mmap.mmap(-1, 1)  # shared with the forked processes


@dataclasses.dataclass
class Tally:
    """What was done so far: kills by signal and by what they hit, and what was wrong."""

    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    hit: Counter[str] = dataclasses.field(default_factory=Counter)
    unfinished_left: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


def main() -> None:
    """Runs once undisturbed, then until all kills are done and the last run has ended, then from wrong states."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = options.parse_args()
    draw, began, tally = random.Random(arguments.seed), time.monotonic(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        root, runs, compared = Path(folder), 0, 0
        finish(start(root, "undisturbed"))  # also makes the scenes
        began_one = time.monotonic()
        finish(start(root, "timed"))
        took, expected = time.monotonic() - began_one, numbers(root / "undisturbed")
        while tally.kills.total() < arguments.kills:
            runs += 1
            kill_until_done(root, f"run{runs}", draw, took, arguments.kills, tally)
            found = numbers(root / f"run{runs}")
            compared += sum(map(len, found))
            tally.failures += [] if found == expected else [f"run {runs}: numbers differ"]
        control = resume_wrongly(root, expected)
    for what, differing in control.items():
        if (differing == 0) != (what == "nothing"):
            tally.failures.append(f"resumed with {what} changed: {differing} numbers differ")
    row = {"kills": dict(tally.kills), "hit": dict(tally.hit), "unfinished_left": tally.unfinished_left, "runs": runs}
    row |= {"steps_a_run": NUM_STEPS, "numbers_compared": compared, "differing_when_changed": control}
    row |= {"failures": tally.failures, "seconds": round(time.monotonic() - began, 1)}
    show(row)
    save([row], "stress_resume", arguments.output)
    sys.exit(1 if tally.failures else 0)


def kill_until_done(root: Path, name: str, draw: random.Random, took: float, most: int, tally: Tally) -> None:
    """Starts one run again and again, a kill each while there are kills left."""
    workdir = root / name
    while True:
        count, hit = tally.kills.total(), ""
        is_moment, kind = draw_moment(draw, workdir, took, writing=count % 2 == 1), KINDS[count % len(KINDS)]
        child = start(root, name)
        if count < most and reached(child, is_moment):
            hit = kill(child, kind, workdir)
        code = finish(child)
        if hit and (code < 0 or code == 130):
            tally.kills[kind.name] += 1
            tally.hit[hit] += 1
            tally.unfinished_left += "in writing" in hit and bool(in_writing(workdir))
        if code not in {0, 130, -signal.SIGKILL}:
            tally.failures.append(f"{name}: exit code {code} after {kind.name}")
            return
        tally.failures += left_over(workdir, killed=code != 0)
        if code == 0:
            return


def kill(child: int, kind: signal.Signals, workdir: Path) -> str:
    """Freezes the process, looks at what it is at, and sends the signal; returns what was hit."""
    os.kill(child, signal.SIGSTOP)
    os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    phase = ("starting", *PHASES.values())[PHASE[0]]
    # What lies there while it starts is what a kill before has left.
    kinds = sorted({path.parent.name for path in in_writing(workdir)}) if PHASE[0] else []
    os.kill(child, kind)
    os.kill(child, signal.SIGCONT)
    return f"{phase}, {' and '.join(kinds)} in writing" if kinds else phase


def resume_wrongly(root: Path, expected: list[dict[str, float]]) -> dict[str, int]:
    """Stops a run in its middle and resumes copies of it; returns what was changed → how many numbers differ."""
    child = start(root, "stopped")
    while not list((root / "stopped").glob(f"checkpoints/latest/{NUM_STEPS // 2}")):
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    finish(child)
    result = {}
    for what, change in CHANGES.items():
        shutil.copytree(root / "stopped", root / what)
        finish(start(root, what, change))
        pairs = zip(expected, numbers(root / what), strict=True)
        result[what] = sum(theirs.get(name) != value for ours, theirs in pairs for name, value in ours.items())
    return result


def flip_bit(tree: Any, bit: int) -> Any:
    """Flips one bit, 0 the lowest, of the first number of the last array of floats."""
    import jax
    import numpy as np

    leaves, structure = jax.tree.flatten(tree)
    last = max(i for i, leaf in enumerate(leaves) if leaf.dtype == np.float32)
    changed = np.array(leaves[last])
    changed.view(np.uint32).flat[0] ^= 1 << bit
    leaves[last] = jax.numpy.array(changed)
    return jax.tree.unflatten(structure, leaves)


def next_batch(run: dict[str, Any]) -> dict[str, Any]:
    """Moves the data position on by one."""
    return run | {"batches": {"next_batch": run["batches"]["next_batch"] + 1}}


# What is changed → state and run as they are restored → as the run goes on from.
CHANGES: dict[str, Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]] = {
    "nothing": lambda state, run: (state, run),
    "lowest bit of a parameter": lambda state, run: (state.replace(params=flip_bit(state.params, 0)), run),
    "bit 16 of a second moment": lambda state, run: (state.replace(opt_state=flip_bit(state.opt_state, 16)), run),
    "data position by one": lambda state, run: (state, next_batch(run)),
}


def start(root: Path, name: str, change: Callable | None = None) -> int:
    """Forks a training in `root`/`name` and returns its process id; `change` is made to the state it resumes from."""
    # Imported here, once, and before the fork: JAX has started no threads until it is asked for a device.
    from m3sr_jax.cli import exit_code
    from m3sr_jax.config import load_config
    from m3sr_jax.training import loop
    from m3sr_jax.training.checkpoint import quiet_orbax

    quiet_orbax()
    PHASE[0] = 0
    child = os.fork()
    if child:
        return child
    with (root / f"{name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for number, method in enumerate(PHASES, 1):
        setattr(loop._Run, method, telling_phase(number, getattr(loop._Run, method)))
    if change is not None:
        loop.Checkpoints.restore_latest = changed_after(loop.Checkpoints.restore_latest, change)
    config = load_config(TOY)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(root / "scenes")),
        train=dataclasses.replace(config.train, num_steps=NUM_STEPS, checkpoint_every_steps=2, eval_every_steps=10),
    )
    code = exit_code(lambda: loop.train_and_evaluate(config, root / name))
    os._exit(code)


def changed_after(restore: Callable, change: Callable) -> Any:
    """`Checkpoints.restore_latest`, followed by `change` of what it returns."""

    def restore_and_change(checkpoints: Any, template: Any) -> Any:
        state, run, damaged = restore(checkpoints, template)
        return *change(state, run), damaged

    return restore_and_change


def telling_phase(number: int, method: Callable) -> Callable:
    """The method, which says in `PHASE` that the process is in it."""

    def told(*given: Any) -> Any:
        before, PHASE[0] = PHASE[0], number
        try:
            return method(*given)
        finally:
            PHASE[0] = before

    return told


def in_writing(workdir: Path) -> list[Path]:
    """Checkpoints that are not complete."""
    return list(workdir.glob(f"checkpoints/*/*{UNFINISHED}*"))


def finish(child: int) -> int:
    """Waits for a process and returns its exit code, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reached(child: int, is_moment: Callable[[], bool]) -> bool:
    """Waits for a moment; False where the process ended before."""
    while not is_moment():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.001)
    return True


def draw_moment(draw: random.Random, workdir: Path, took: float, *, writing: bool) -> Callable[[], bool]:
    """Returns whether a random moment has come: a time, or the writing of the first to the eighth checkpoint."""
    if not writing:
        moment = time.monotonic() + draw.uniform(0, took)
        return lambda: time.monotonic() >= moment
    seen, count = set(in_writing(workdir)), draw.randint(1, 8)  # a kill before may have left one
    count += len(seen)

    def is_moment() -> bool:
        now = in_writing(workdir)
        seen.update(now)
        return bool(now) and len(seen) >= count

    return is_moment


def left_over(workdir: Path, *, killed: bool) -> list[str]:
    """What should not lie there; until the next start a kill may leave unfinished files, at most three."""
    if not workdir.is_dir():
        return []
    odd = [path for path in workdir.iterdir() if path.name not in EXPECTED]
    odd += list(workdir.glob("report/.*"))
    for kind, most in MOST_CHECKPOINTS.items():
        entries = sorted((workdir / "checkpoints" / kind).glob("*"))
        complete = [path for path in entries if path.name.isdigit()]
        odd += [path for path in entries if not path.name.isdigit()] + complete[: max(0, len(complete) - most)]
    allowed = 3 if killed else 0
    return (
        [f"{workdir.name}: left over {[str(path.relative_to(workdir)) for path in odd]}"] if len(odd) > allowed else []
    )


def numbers(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl, but for the one figure that is about time, and the checksum of the last state."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = json.loads((workdir / f"checkpoints/latest/{NUM_STEPS}/run/metadata").read_text())
    logged = [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]
    return [*logged, {"crc32": last["crc32"]}]


if __name__ == "__main__":
    main()
