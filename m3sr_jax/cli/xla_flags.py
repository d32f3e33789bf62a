"""What the commands tell XLA before it starts."""

from __future__ import annotations

import os

# XLA's CPU backend orders operations for concurrency. Each of ours fills all cores by itself, so the order that keeps
# fewest buffers alive is as fast and needs a third less memory (benchmarks/bench_model.py).
_SMALLEST_MEMORY = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def plan_for_memory() -> None:
    """Adds to XLA_FLAGS the choice of XLA's memory-saving order of operations on a CPU, unless they make that choice.

    XLA reads the variable once, at its first use in the process: call this before. It is for commands alone, which own
    their process; importing m3sr_jax changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _SMALLEST_MEMORY.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_SMALLEST_MEMORY}".strip()
