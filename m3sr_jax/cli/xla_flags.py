"""XLA flags of the commands."""

from __future__ import annotations

import os

# XLA's CPU backend schedules operations to run concurrently. Each of ours already fills all cores, so the schedule
# that keeps fewest buffers alive is as fast and needs a third less memory (benchmarks/bench_model.py).
_MEMORY_SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def plan_for_memory() -> None:
    """Selects XLA's memory-saving scheduler on the CPU in XLA_FLAGS, unless the user has chosen a scheduler there.

    Call it before XLA is first used, which reads the variable once. Only commands call it, since they own their
    process; importing m3sr_jax changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _MEMORY_SCHEDULER.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_MEMORY_SCHEDULER}".strip()
