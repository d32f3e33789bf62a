"""What every benchmark shares: timing, memory, the machine's own speed, and JSON with device and versions.

Times are medians of repeated calls after one warm-up; compilation is timed apart. The matmul rate, or on a GPU the rate
of a large copy, is measured in the same run, so that results are ratios that travel better than seconds. A GPU works
behind the host's back: there, each time is that of many calls put in its queue at once, divided by their number, and
so the device's own as long as a call takes it longer than the host takes to queue one (some 20 µs).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_jax.environment import environment

GPU_BATCH_S = 0.05  # device work that is queued at once and timed as one


def compile_and_time(function: Callable, *arguments: Any, repeats: int = 5) -> dict[str, float]:
    """Compiles `function` for `arguments` and times it: compile_s, median_s, min_s, and the program's own temp_mib."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    result = {"compile_s": time.perf_counter() - start}
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 2**20 if memory else float("nan")
    return result | time_calls(lambda: compiled(*arguments), repeats) | {"temp_mib": temporary}


def time_calls(call: Callable[[], Any], repeats: int = 5) -> dict[str, float]:
    """Times a compiled function's call: median_s and min_s of `repeats` times, after a warm-up."""

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            out = call()
        jax.block_until_ready(out)
        return (time.perf_counter() - start) / calls

    seconds(1)
    calls = max(1, min(200, int(GPU_BATCH_S / seconds(1)))) if jax.default_backend() == "gpu" else 1
    times = [seconds(calls) for _ in range(repeats)]
    return {"median_s": statistics.median(times), "min_s": min(times)}


def copy_bytes_per_s(size: int = 2**29) -> float:
    """Bytes a second, read and written, of adding 1 to `size` float32 numbers: what a memory-bound kernel can reach."""
    numbers = jnp.zeros(size, jnp.float32) + 0.5
    return 8 * size / compile_and_time(lambda x: x + 1, numbers)["median_s"]


def tree_bytes(*trees: Any) -> int:
    """Bytes of all arrays in the trees."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))


def matmul_gflops(size: int = 3000) -> float:
    """Best rate of a large float32 matrix product, in GFLOP/s."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    return 2 * size**3 / compile_and_time(lambda m: m @ m, matrix)["min_s"] / 1e9


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with --output, which appends to a JSON-lines file."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, help="JSON-lines file to append to")
    return result


def save(rows: list[dict[str, Any]], benchmark: str, output: Path | None) -> None:
    """Appends one JSON object a row to `output`, with the benchmark's name, device and versions.

    Nothing without `output`.
    """
    lines = [json.dumps({"benchmark": benchmark, **row, "environment": environment()}) for row in rows]
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a") as file:
            file.writelines(line + "\n" for line in lines)


def show(row: dict[str, Any]) -> None:
    """One row as text, at once, so that a long run shows where it is."""
    print(
        "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    )


def normal_arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, jax.Array]:
    """Standard normal arrays of the given shapes."""
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    named = zip(keys, shapes.items(), strict=True)
    return {name: jax.random.normal(key, shape, jnp.float32) for key, (name, shape) in named}
