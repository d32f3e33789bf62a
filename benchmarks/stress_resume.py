"""Kills a tiny training at random moments, resumes it, and compares every logged number with an undisturbed run.

    python benchmarks/stress_resume.py [--kills 50] [--seed 0] [--output FILE]

SIGKILL, SIGTERM and SIGINT take turns. Every other one waits, after its random moment, for a checkpoint to be in
writing. A run that ends is compared and a new one begun. Starts are forked from a process that has imported everything
and asked JAX for nothing yet. Exits with 1 where a number differs or a file is left over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from measure import parser, save, show

TOY = Path(__file__).parents[1] / "tests" / "m3sr_jax" / "training" / "toy_config.py"
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NUM_STEPS = 40
EXPECTED = {".lock", "config.json", "model.json", "metrics.jsonl", "report", "checkpoints"}
MOST_CHECKPOINTS = {"latest": 2, "best": 1}


def main() -> None:
    """Runs once undisturbed, then until all kills are done and the last run has ended."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = options.parse_args()
    draw, began = random.Random(arguments.seed), time.monotonic()
    kills: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root, runs, compared = Path(folder), 0, 0
        finish(start(root, "undisturbed"))
        finish(start(root, "again"))  # the first one also made the scenes
        began_one = time.monotonic()
        finish(start(root, "timed"))
        took, expected = time.monotonic() - began_one, numbers(root / "undisturbed")
        while kills.total() < arguments.kills:
            runs += 1
            failures += kill_until_done(root, f"run{runs}", draw, took, arguments.kills, kills)
            found = numbers(root / f"run{runs}")
            compared += sum(map(len, found))
            failures += [] if found == expected else [f"run {runs}: numbers differ"]
    row = {"kills": dict(kills), "runs": runs, "steps_a_run": NUM_STEPS, "numbers_compared": compared}
    row |= {"failures": failures, "seconds": round(time.monotonic() - began, 1)}
    show(row)
    save([row], "stress_resume", arguments.output)
    sys.exit(1 if failures else 0)


def kill_until_done(root: Path, name: str, draw: random.Random, took: float, most: int, kills: Counter) -> list[str]:
    """Starts one run again and again, a kill each while there are kills left; returns what was wrong."""
    failures, workdir = [], root / name
    while True:
        child, kind = start(root, name), KINDS[kills.total() % len(KINDS)]
        if kills.total() < most:
            in_writing = kills.total() % 2 == 1
            if wait_for_moment(child, workdir, draw.uniform(0, took), in_writing):
                os.kill(child, kind)
        code = finish(child)
        allowed = {0, 130, -signal.SIGKILL}
        if code < 0 or code == 130:
            kills[kind.name] += 1
        if code not in allowed:
            failures.append(f"{name}: exit code {code} after {kind.name}")
        if code == 0 or code not in allowed:
            return failures + left_over(workdir, killed=False)
        failures += left_over(workdir, killed=True)


def start(root: Path, name: str) -> int:
    """Forks a training in `root`/`name` and returns its process id."""
    # Imported here, once, and before the fork: JAX has started no threads until it is asked for a device.
    from m3sr_jax.cli import exit_code
    from m3sr_jax.config import load_config
    from m3sr_jax.training.checkpoint import quiet_orbax
    from m3sr_jax.training.loop import train_and_evaluate

    quiet_orbax()
    child = os.fork()
    if child:
        return child
    with (root / f"{name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    config = load_config(TOY)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, root=str(root / "scenes")),
        train=dataclasses.replace(config.train, num_steps=NUM_STEPS, checkpoint_every_steps=2, eval_every_steps=10),
    )
    code = exit_code(lambda: train_and_evaluate(config, root / name))
    os._exit(code)


def finish(child: int) -> int:
    """Waits for a process and returns its exit code, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_moment(child: int, workdir: Path, seconds: float, in_writing: bool) -> bool:
    """Sleeps, and then until a checkpoint is in writing; False where the process ended before."""
    moment = time.monotonic() + seconds
    while time.monotonic() < moment or (in_writing and not any(workdir.glob("checkpoints/*/*-tmp*"))):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.001)
    return True


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
    """The lines of metrics.jsonl, but for the one figure that is about time."""
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]


if __name__ == "__main__":
    main()
