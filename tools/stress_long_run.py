"""Trains a tiny network for 2,000 steps and watches memory, open files and compilations.

    python tools/stress_long_run.py [--steps 2000] [--save-every 50] [--output FILE]
    python tools/stress_long_run.py --orbax-alone 1200 [--output FILE]

Only the second half is judged; the first fills caches. The exit code is 1 if resident memory grows by 1 MB or more per
1,000 steps (slope of a line through one sample every 20 steps), if the number of open files grows, or if anything is
compiled. The slopes of the four quarters distinguish steady growth from a plateau. Two runs with different --save-every
separate what each step leaks from what each checkpoint leaks.

--orbax-alone SAVES does not train: Orbax alone saves arrays as large as the tiny run's. The row has the memory growth
per save, and how much of it is strings that TensorStore's `Spec.to_json` leaks.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import jax.monitoring
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script has only its own folder there

from benchmarks.measure import parser, save, show
from m3sr_jax.config import load_config
from m3sr_jax.training import loop
from m3sr_jax.training.progress import TrainingProgress

TOY = Path(__file__).parents[1] / "tests" / "m3sr_jax" / "training" / "toy_config.py"
COMPILED = "/jax/core/compile/backend_compile_duration"
SAMPLE_EVERY = 20  # steps


def main() -> None:
    """Runs once and judges the samples."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument(
        "--save-every", type=int, default=50, help="steps between checkpoints, half of those between evaluations"
    )
    options.add_argument("--orbax-alone", type=int, default=0, metavar="SAVES", help="test Orbax without training")
    arguments = options.parse_args()
    row = orbax_alone(arguments.orbax_alone) if arguments.orbax_alone else judge(arguments.steps, arguments.save_every)
    show(row)
    save([row], "stress_long_run", arguments.output)
    sys.exit(1 if row.get("failed") else 0)


def judge(num_steps: int, save_every: int) -> dict[str, Any]:
    """Trains and returns the row of results."""
    samples = watch_run(num_steps, save_every)
    steps, memory, files, compiled = samples[len(samples) // 2 :].T
    slope = growth(steps, memory)
    row: dict[str, Any] = {"steps": num_steps, "save_every": save_every, "resident_mb": float(memory[-1])}
    row["slope_mb_per_1000_steps"] = slope
    row["slopes_of_quarters"] = [growth(*quarter[:, :2].T) for quarter in np.array_split(samples, 4)]
    row |= {"open_files": sorted(set(files.astype(int).tolist())), "compilations": int(compiled[-1] - compiled[0])}
    row["failed"] = bool(slope >= 1 or files[-1] > files[0] or row["compilations"])
    return row


def growth(steps: np.ndarray, memory: np.ndarray) -> float:
    """Slope of a fitted line, in MB per 1,000 steps."""
    return round(1000 * float(np.polyfit(steps, memory, 1)[0]), 3)


def watch_run(num_steps: int, save_every: int) -> np.ndarray:
    """Trains; returns rows of step, resident memory in MB, open files and programs compiled so far."""
    compiled: Counter[str] = Counter()
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.update([event]))
    samples, update = [], TrainingProgress.update

    def watch(progress: TrainingProgress, step: int, *rest: object) -> None:
        update(progress, step, *rest)  # type: ignore[arg-type]
        if step % SAMPLE_EVERY == 0:
            samples.append((step, resident_mb(), len(os.listdir("/proc/self/fd")), compiled[COMPILED]))

    TrainingProgress.update = watch  # type: ignore[method-assign]
    config = load_config(TOY)
    with tempfile.TemporaryDirectory() as folder:
        intervals = {"checkpoint_every_steps": save_every, "eval_every_steps": 2 * save_every}
        train = dataclasses.replace(config.train, num_steps=num_steps, **intervals)
        data = dataclasses.replace(config.data, root=str(Path(folder) / "scenes"))
        loop.train_and_evaluate(dataclasses.replace(config, train=train, data=data), Path(folder) / "run")
    return np.array(samples)


def orbax_alone(saves: int) -> dict[str, Any]:
    """Saves parameters and two moments; measures what `Spec.to_json` leaks over the last tenth of the saves."""
    import orbax.checkpoint as ocp

    shapes = {"kernel_0": (3, 3, 3, 31), "bias_0": (31,), "kernel_1": (3, 3, 31, 31), "bias_1": (31,)}
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    items = {"params": params, "optimizer": {"mu": params, "nu": params}}
    samples, last = [], saves - saves // 10
    with tempfile.TemporaryDirectory() as folder:
        manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=2))
        for number in range(saves):
            if number == last:
                tracemalloc.start()
            composite = {name: ocp.args.StandardSave(item) for name, item in items.items()}
            manager.save(number, args=ocp.args.Composite(**composite))
            manager.wait_until_finished()
            samples.append((number, resident_mb()))
        gc.collect()
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/tensorstore_utils.py")])
        tracemalloc.stop()
        manager.close()
    strings = max(kept.statistics("lineno"), key=lambda line: line.count)
    numbers, memory = np.array(samples[saves // 2 : last]).T
    return {
        "orbax_alone_saves": saves,
        "kb_a_save": growth(numbers, memory),
        "leaked_strings_a_save": round(strings.count / (saves - last), 1),
        "leaked_kb_a_save": round(strings.size / 1000 / (saves - last), 2),
        "leaked_at": f"{Path(strings.traceback[0].filename).name}:{strings.traceback[0].lineno}",
    }


def resident_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
