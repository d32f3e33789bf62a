"""What every benchmark shares: timing, memory, the machine's own speed, and JSON with device and versions.

Times are medians of repeated calls after one warm-up; compilation is timed apart. The matmul rate is measured in the
same run, before and after, so that results are ratios that travel better than seconds.
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

from m3sr_jax.report.environment import environment


def compile_and_time(function: Callable, *arguments: Any, repeats: int = 5) -> dict[str, float]:
    """Compiles `function` for `arguments` and times it: compile_s, median_s, min_s, and the program's own temp_mib."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    result = {"compile_s": time.perf_counter() - start}
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - start)
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 2**20 if memory else float("nan")
    return result | {"median_s": statistics.median(seconds), "min_s": min(seconds), "temp_mib": temporary}


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
