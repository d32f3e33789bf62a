"""The whole model: time, memory and share of peak of a forward pass and a training step.

Command:  python benchmarks/bench_model.py [--output benchmarks/results/cpu.jsonl]

`share` is the exact operation count (m3sr inspect) per second, as a share of the rate of a large float32 matrix product
in the same run. `over_forward` is the training step's time over that of the forward pass at the same size.
--implementations compares implementations of the scans; "default" is the one that implementation=None chooses. On a GPU
the training step takes the whole batch of 32 crops. --remat measures only the training step of one crop, without and
with model.remat. `cpu_s` is CPU time over all cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn
from m3sr_kernels import Implementation
from m3sr_kernels.dispatch import NAMES, resolve
from measure import compile_and_time, matmul_gflops, parser, save, show

from m3sr_jax import M3SR
from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.config import OptimConfig
from m3sr_jax.cost.count import cost_report
from m3sr_jax.models import init_params
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

FORWARD = {"gpu": [(1, 482, 512)], "cpu": [(1, 128, 128), (4, 128, 128), (1, 256, 256), (1, 482, 512)]}
TRAINING = {"gpu": [(32, 128, 128)], "cpu": [(1, 128, 128), (4, 128, 128)]}
BANDS = 31  # every network's default


def time_training_step(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, float]:
    """Times the training step: loss, gradient and Adam.

    The step donates its state, so each call takes the state that the last one returned.
    """
    optimizer = make_optimizer(OptimConfig(), num_steps=1000)
    state = create_train_state(optimizer, init_params(model, jax.random.key(0)))
    batch = {
        "rgb": jax.random.uniform(jax.random.key(1), (*shape, 3)),
        "cube": jax.random.uniform(jax.random.key(2), (*shape, BANDS)),
    }
    start = time.perf_counter()
    step = jit_train_step(model, optimizer).lower(state, batch).compile()
    result = {"compile_s": time.perf_counter() - start, "temp_mib": step.memory_analysis().temp_size_in_bytes / 2**20}
    seconds, cpu_seconds = [], []
    for _ in range(4):
        start, cpu_start = time.perf_counter(), time.process_time()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    times = {"median_s": statistics.median(seconds[1:]), "min_s": min(seconds[1:]), "cpu_s": min(cpu_seconds[1:])}
    return result | times


def measure_remat() -> list[dict[str, Any]]:
    """Rows of the training step of one crop: keeping all activations, and recomputing those of each block."""
    rows = []
    for remat in (False, True):
        row = {"mode": "training step", "shape": "1x128x128", "remat": remat}
        rows.append(row | time_training_step(M3SR(remat=remat), (1, 128, 128)))
        show(rows[-1])
    return rows


def measure_model(implementation: Implementation | None, *, training: bool) -> Iterator[dict[str, Any]]:
    """Yields the rows of one implementation of the scans: forward at each size, then the training step."""
    model = M3SR(implementation=implementation)
    scans = resolve(implementation, jax.default_backend())
    params = init_params(model, jax.random.key(0))
    rates, forward = [matmul_gflops()], {}
    backend = jax.default_backend()
    crops = TRAINING.get(backend, TRAINING["cpu"]) if training else []
    for shape in dict.fromkeys([*FORWARD.get(backend, FORWARD["cpu"]), *crops]):
        rgb = jax.random.uniform(jax.random.key(1), (*shape, 3))
        times = compile_and_time(lambda params, rgb: model.apply({"params": params}, rgb), params, rgb, repeats=3)
        rates.append(matmul_gflops())
        total = cost_report(model, *shape[1:]).total
        assert total is not None
        gflop = shape[0] * total.flops / 1e9
        row = {"mode": "forward", "shape": "x".join(map(str, shape)), "scans": scans, "gflop": gflop}
        row |= {"matmul_gflops": rates[-1]}
        forward[row["shape"]] = times["min_s"]
        yield row | times | {"share": gflop / times["min_s"] / max(rates[-2:])}
    for shape in crops:
        times = time_training_step(model, shape)
        name = "x".join(map(str, shape))
        row = {"mode": "training step", "shape": name, "scans": scans} | times
        yield row | {"over_forward": times["min_s"] / forward[name]}


def main() -> None:
    plan_for_memory()  # as every command does
    options = parser(__doc__)
    options.add_argument("--skip-training", action="store_true")
    options.add_argument("--remat", action="store_true")
    options.add_argument("--implementations", nargs="+", default=["default"], choices=["default", *NAMES])
    args = options.parse_args()
    if args.remat:
        save(measure_remat(), "model", args.output)
        return
    for name in args.implementations:
        for row in measure_model(None if name == "default" else name, training=not args.skip_training):
            show(row)
            save([row], "model", args.output)


if __name__ == "__main__":
    main()
