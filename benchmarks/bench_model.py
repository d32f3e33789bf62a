"""The whole model: time, memory and share of peak of a forward pass and a training step.

Command:  python benchmarks/bench_model.py [--output benchmarks/results/cpu.jsonl]

`share` is the exact operation count (m3sr inspect) per second, as a share of the rate of a large float32 matrix product
in the same run. `over_forward` is the training step's time over that of the forward pass at the same size.
--implementations compares implementations of the scans; "default" is the one that implementation=None chooses.
--matmul-precision sets the model's field. On a GPU the training step takes the whole batch of 32 crops. --remat
measures only the training step of one crop, without and with model.remat. `cpu_s` is CPU time over all cores.

--peer runs M3SR and MST++ in PyTorch (torch_peer.py; it needs the extra torch) in one process, one call each in turn;
`over_peer` is M3SR's time over that of MST++, `cpu_over_peer` the same of CPU time, which a busy machine changes less.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jax
from flax import linen as nn
from m3sr_kernels import Implementation
from m3sr_kernels.dispatch import NAMES, resolve
from measure import backend, compile_and_time, matmul_gflops, measured, parser, save, show, shrunk

from m3sr_jax import M3SR
from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.config import OptimConfig
from m3sr_jax.config.names import MatmulPrecision
from m3sr_jax.cost.count import cost_report
from m3sr_jax.models import init_params
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

FORWARD = {"gpu": [(1, 482, 512)], "cpu": [(1, 128, 128), (4, 128, 128), (1, 256, 256), (1, 482, 512)]}
TRAINING = {"gpu": [(32, 128, 128)], "cpu": [(1, 128, 128), (4, 128, 128)]}
PEER = {"forward": [(1, 256, 256), (1, 482, 512)], "training step": TRAINING["cpu"]}
BANDS = 31  # every network's default


def time_training_step(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, float]:
    """Times the training step: loss, gradient and Adam.

    The step donates its state, so each call takes the state that the last one returned.
    """
    step, result = compile_training_step(model, shape)
    return result | time_in_turn({"": step}, repeats=3)[""]


def time_forward(model: nn.Module, params: Any, shape: tuple[int, ...]) -> dict[str, float]:
    """Times a forward pass of a batch of this shape."""
    rgb = jax.random.uniform(jax.random.key(1), (*shape, 3))
    return compile_and_time(lambda params, rgb: model.apply({"params": params}, rgb), params, rgb, repeats=3)


def compile_training_step(model: nn.Module, shape: tuple[int, int, int]) -> tuple[Callable[[], Any], dict[str, float]]:
    """A call of the training step that goes on from the last one, and compile_s and temp_mib."""
    optimizer = make_optimizer(OptimConfig(), num_steps=1000)
    state = create_train_state(optimizer, init_params(model, jax.random.key(0)))
    batch = {
        "rgb": jax.random.uniform(jax.random.key(1), (*shape, 3)),
        "cube": jax.random.uniform(jax.random.key(2), (*shape, BANDS)),
    }
    step, result = compile_program(jit_train_step(model, optimizer), state, batch)

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    return call, result


def compile_program(program: Any, *arguments: Any) -> tuple[Callable, dict[str, float]]:
    """Compiles a jitted function for these arguments; also returns compile_s and temp_mib."""
    start = time.perf_counter()
    compiled = program.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return compiled, {"compile_s": seconds, "temp_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20}


def time_in_turn(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Times calls one after the other, `repeats` rounds after a warm-up: median_s, min_s and cpu_s of each."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(1 + repeats):
        for name, call in calls.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    result = {}
    for name, pairs in seconds.items():
        wall, cpu = zip(*pairs[1:], strict=True)
        result[name] = {"median_s": statistics.median(wall), "min_s": min(wall), "cpu_s": min(cpu)}
    return result


def measure_peer(repeats: int) -> Iterator[dict[str, Any]]:
    """Yields a row for each mode and size: M3SR, and under peer_… MST++ in PyTorch, timed in turn."""
    import torch_peer

    model = M3SR()
    for mode, shape in [(mode, shape) for mode, shapes in PEER.items() for shape in shapes]:
        if mode == "forward":
            rgb = jax.random.uniform(jax.random.key(1), (*shape, 3))
            params = init_params(model, jax.random.key(0))
            forward = jax.jit(lambda params, rgb: model.apply({"params": params}, rgb))
            compiled, result = compile_program(forward, params, rgb)
            call, peer = functools.partial(compiled, params, rgb), torch_peer.forward_call(shape)
        else:
            call, result = compile_training_step(model, shape)
            peer = torch_peer.training_call(shape)
        times = time_in_turn({"m3sr": call, "peer": peer}, repeats)
        result |= times["m3sr"] | {f"peer_{name}": value for name, value in times["peer"].items()}
        result |= {"over_peer": result["min_s"] / result["peer_min_s"]}
        result |= {"cpu_over_peer": result["cpu_s"] / result["peer_cpu_s"]}
        if mode == "forward":
            gflop, rate = gflop_of(model, shape), matmul_gflops()
            result |= {"gflop": gflop, "matmul_gflops": rate, "share": gflop / result["min_s"] / rate}
        scans = resolve(None, jax.default_backend())
        yield {"mode": mode, "shape": "x".join(map(str, shape)), "scans": scans} | result


def gflop_of(model: nn.Module, shape: tuple[int, ...]) -> float:
    """The exact operations of a forward pass."""
    total = cost_report(model, *shape[1:]).total
    assert total is not None
    return shape[0] * total.flops / 1e9


def measure_remat() -> list[dict[str, Any]]:
    """Rows of the training step of one crop: keeping all activations, and recomputing those of each block."""
    rows = []
    for remat in (False, True):
        row = {"mode": "training step", "shape": "1x128x128", "remat": remat}
        rows.append(row | time_training_step(M3SR(remat=remat), (1, 128, 128)))
        show(rows[-1])
    return rows


def measure_model(
    implementation: Implementation | None, precision: MatmulPrecision, *, training: bool
) -> Iterator[dict[str, Any]]:
    """Yields the rows of one implementation of the scans: forward at each size, then the training step."""
    model = measured(M3SR(implementation=implementation, matmul_precision=precision))
    kind = {"scans": resolve(implementation, backend()), "matmul_precision": precision}
    params = init_params(model, jax.random.key(0))
    rates, forward = [matmul_gflops()], {}
    crops = [shrunk(shape) for shape in TRAINING.get(backend(), TRAINING["cpu"])] if training else []
    images = [shrunk(shape) for shape in FORWARD.get(backend(), FORWARD["cpu"])]
    for shape in dict.fromkeys([*images, *crops]):
        times = time_forward(model, params, shape)
        rates.append(matmul_gflops())
        gflop = gflop_of(model, shape)
        row = {"mode": "forward", "shape": "x".join(map(str, shape))} | kind | {"gflop": gflop}
        row |= {"matmul_gflops": rates[-1]}
        forward[row["shape"]] = times["min_s"]
        yield row | times | {"share": gflop / times["min_s"] / max(rates[-2:])}
    for shape in crops:
        times = time_training_step(model, shape)
        name = "x".join(map(str, shape))
        row = {"mode": "training step", "shape": name} | kind | times
        yield row | {"over_forward": times["min_s"] / forward[name]}


def main() -> None:
    plan_for_memory()  # as every command does
    options = parser(__doc__)
    options.add_argument("--skip-training", action="store_true")
    options.add_argument("--remat", action="store_true")
    options.add_argument("--peer", action="store_true")
    options.add_argument("--repeats", type=int, default=5, help="rounds of --peer (default 5)")
    options.add_argument("--implementations", nargs="+", default=["default"], choices=["default", *NAMES])
    options.add_argument("--matmul-precision", default="float32", choices=get_args(MatmulPrecision))
    args = options.parse_args()
    if args.remat:
        save(measure_remat(), "model", args.output)
        return
    if args.peer:
        for row in measure_peer(args.repeats):
            show(row)
            save([row], "peer", args.output)
        return
    for name in args.implementations:
        implementation = None if name == "default" else name
        for row in measure_model(implementation, args.matmul_precision, training=not args.skip_training):
            show(row)
            save([row], "model", args.output)


if __name__ == "__main__":
    main()
