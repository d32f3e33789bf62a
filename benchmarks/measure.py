"""What the benchmarks share: timing, memory, the machine's peak rates, and JSON rows with device and versions.

Times are medians of repeated calls after one warm-up; compilation is timed separately. Each run also measures the rate
of a large matrix product, or on a GPU that of a large copy, because ratios transfer to other machines better than
seconds do. A GPU runs asynchronously: there, a time is that of many queued calls divided by their number. It is the
device's own time as long as a call takes longer than queuing it does (about 20 µs).

With M3SR_DRY_RUN set, the scripts take the way that they take on a GPU, on a CPU, with tiny arrays, the plain loop for
every scan and a small network for M3SR. That tests the scripts; the numbers mean nothing, and their rows say so.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from m3sr_kernels.dispatch import NAMES

from m3sr_jax.environment import environment
from m3sr_jax.models import create

GPU_BATCH_S = 0.05  # device time of the calls that are queued and timed together
DRY_RUN = bool(os.environ.get("M3SR_DRY_RUN"))


def backend() -> str:
    """The backend that a script measures: "gpu" on a dry run."""
    return "gpu" if DRY_RUN else jax.default_backend()


def shrunk(sizes: Any) -> Any:
    """Sizes (a tuple, or a named tuple such as an op's `Shape`); on a dry run none is above 4."""
    if not DRY_RUN:
        return sizes
    cut = [min(size, 4) for size in sizes]
    return type(sizes)(*cut) if hasattr(sizes, "_fields") else tuple(cut)


def runnable(implementation: str | None) -> Any:
    """The implementation to run: on a dry run the plain loop, once the name is known to exist."""
    if DRY_RUN and implementation not in (None, *NAMES):
        raise ValueError(f"unknown implementation {implementation}; expected one of {', '.join(NAMES)}")
    return "reference" if DRY_RUN else implementation


def measured(model: nn.Module) -> nn.Module:
    """The network to run: on a dry run one that compiles in a second."""
    return create("pixel") if DRY_RUN else model


def compile_and_time(function: Callable, *arguments: Any, repeats: int = 5) -> dict[str, float]:
    """Compiles `function` for `arguments` and times it; returns compile_s, median_s, min_s and temp_mib."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    result = {"compile_s": time.perf_counter() - start}
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 2**20 if memory else float("nan")
    return result | time_calls(lambda: compiled(*arguments), repeats) | {"temp_mib": temporary}


def time_calls(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Times a call `repeats` times after a warm-up; returns median_s and min_s."""

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            out = call()
        jax.block_until_ready(out)
        return (time.perf_counter() - start) / calls

    seconds(1)
    calls = max(1, min(200, int(GPU_BATCH_S / seconds(1)))) if backend() == "gpu" else 1
    times = [seconds(calls) for _ in range(repeats)]
    return {"median_s": statistics.median(times), "min_s": min(times)}


def copy_bytes_per_s(size: int = 2**29) -> float:
    """Bytes per second, read plus written, of adding 1 to `size` float32 numbers: the peak of a memory-bound op."""
    size = 2**10 if DRY_RUN else size
    numbers = jnp.zeros(size, jnp.float32) + 0.5
    return 8 * size / compile_and_time(lambda x: x + 1, numbers)["median_s"]


def tree_bytes(*trees: Any) -> int:
    """Total size of all arrays in the trees, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))


def matmul_gflops(size: int = 3000) -> float:
    """Highest measured rate of a large float32 matrix product, in GFLOP/s; a GPU does not use TF32 for it."""
    size = 64 if DRY_RUN else size
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = functools.partial(jnp.matmul, precision="highest")
    return 2 * size**3 / compile_and_time(lambda m: product(m, m), matrix)["min_s"] / 1e9


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option --output."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, help="JSON-lines file to append to")
    return result


def save(rows: list[dict[str, Any]], benchmark: str, output: Path | None) -> None:
    """Appends each row to `output`, if given, as a JSON object with the benchmark's name, device and versions."""
    facts = {"environment": environment()} | ({"dry_run": True} if DRY_RUN else {})
    lines = [json.dumps({"benchmark": benchmark, **row, **facts}) for row in rows]
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a") as file:
            file.writelines(line + "\n" for line in lines)


def show(row: dict[str, Any]) -> None:
    """Prints a row at once, so that a long run shows its progress."""
    print(
        "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    )


def normal_arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    """Standard normal arrays of the given shapes."""
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    named = zip(keys, shapes.items(), strict=True)
    return {name: jax.random.normal(key, shape, jnp.float32) for key, (name, shape) in named}
