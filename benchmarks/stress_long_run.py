"""Trains a tiny network for 2,000 steps and watches memory, open files and compilations.

    python benchmarks/stress_long_run.py [--steps 2000] [--output FILE]

The second half counts: the first fills caches. Exits with 1 where resident memory grows by 1 MB or more in 1,000
steps (slope of a line through one sample every 20 steps), where open files become more, or where anything is compiled.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax.monitoring
import numpy as np
from measure import parser, save, show

from m3sr_jax.config import load_config
from m3sr_jax.training import loop
from m3sr_jax.training.progress import TrainingProgress

TOY = Path(__file__).parents[1] / "tests" / "m3sr_jax" / "training" / "toy_config.py"
COMPILED = "/jax/core/compile/backend_compile_duration"
EVERY = 20


def main() -> None:
    """Runs once, and judges."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=2000)
    arguments = options.parse_args()
    samples = watch_run(arguments.steps)
    steps, memory, files, compiled = samples[len(samples) // 2 :].T
    slope = 1000 * float(np.polyfit(steps, memory, 1)[0])
    row = {"steps": arguments.steps, "resident_mb": float(memory[-1]), "slope_mb_per_1000_steps": round(slope, 3)}
    row |= {"open_files": sorted(set(files.astype(int).tolist())), "compilations": int(compiled[-1] - compiled[0])}
    row["failed"] = bool(slope >= 1 or files[-1] > files[0] or row["compilations"])
    show(row)
    save([row], "stress_long_run", arguments.output)
    sys.exit(1 if row["failed"] else 0)


def watch_run(num_steps: int) -> np.ndarray:
    """Returns rows of step, resident memory in MB, open files, programs compiled so far."""
    compiled: Counter[str] = Counter()
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.update([event]))
    samples, update = [], TrainingProgress.update

    def watch(progress: TrainingProgress, step: int, *rest: object) -> None:
        update(progress, step, *rest)  # type: ignore[arg-type]
        if step % EVERY == 0:
            samples.append((step, resident_mb(), len(os.listdir("/proc/self/fd")), compiled[COMPILED]))

    TrainingProgress.update = watch  # type: ignore[method-assign]
    config = load_config(TOY)
    with tempfile.TemporaryDirectory() as folder:
        train = dataclasses.replace(config.train, num_steps=num_steps, eval_every_steps=100, checkpoint_every_steps=50)
        data = dataclasses.replace(config.data, root=str(Path(folder) / "scenes"))
        loop.train_and_evaluate(dataclasses.replace(config, train=train, data=data), Path(folder) / "run")
    return np.array(samples)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
