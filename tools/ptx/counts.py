"""Counts the warp instructions of the GPU kernels at the model's shapes, without a GPU.

    .venv-gpu/bin/python -m tools.ptx.counts --output benchmarks/results/gpu_instructions.jsonl

Four blocks of each launch run, for their addresses only, so the counts depend on nothing but the compiler. A row sums
over the launches of a kernel; its counts are a pixel (a sequence, for S6 and the mixer) and direction. "instructions"
are PTX, "machine_instructions" an estimate of what ptxas leaves of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_platforms", "cpu")

from tools.ptx.execute import Launch, execute_addresses  # noqa: E402
from tools.ptx.machine_code import machine_instructions_per_ptx  # noqa: E402
from tools.ptx.ops import function_of, shapes_module, specs  # noqa: E402
from tools.ptx.pallas import compiled_launches  # noqa: E402

GPU = "NVIDIA H200"
DIRECTIONS = {"ss2d_scan": 4}
JOBS = [
    ("ss2d_scan", "photo, spatial, full", "pallas_triton"),
    ("ss2d_scan", "photo, frequency, full", "pallas_triton"),
    ("ss2d_scan", "photo, spatial, full", "pallas_mosaic"),
    ("s6_scan", "photo, full", "pallas_triton"),
    ("s6_scan", "photo, full", "pallas_mosaic"),
    ("mamba_token_mix", "photo, full", "pallas_triton"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON-lines file to write")
    args = parser.parse_args()
    rows = []
    for job in JOBS:
        for row in rows_of(*job):
            rows.append(row)
            print(json.dumps(row), flush=True)
    args.output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 0


def rows_of(
    op: str, case: str, implementation: str, dtype: str = "float32", gpu: str = GPU
) -> Iterator[dict[str, Any]]:
    """A row for each kernel of an op, forward and backward."""
    shape = shapes_module(op).SHAPES[case]
    sequence = shape.length if op == "ssd_scan" else 1
    pixels = shape.batch * sequence * getattr(shape, "height", 1) * getattr(shape, "width", 1)
    by_name: dict[str, list[Launch]] = {}
    for launch in compiled_launches(function_of(op, implementation), specs(shape, dtype), gpu=gpu):
        by_name.setdefault(launch.name, []).append(launch)
    where = {"device": gpu, "op": op, "case": case, "dtype": dtype, "implementation": implementation}
    for name, launches in by_name.items():
        totals: dict[str, float] = {}
        for launch in launches:
            for key, value in _counts(launch, gpu).items():
                totals[key] = totals.get(key, 0) + value
        counts = {key: round(value / pixels / DIRECTIONS.get(op, 1), 2) for key, value in totals.items()}
        launched = {
            "kernel": name,
            "launches": len(launches),
            "grid": launches[0].grid,
            "threads": launches[0].threads[0],
        }
        yield {"benchmark": "gpu_instructions", **where, **launched, **counts, "jax": jax.__version__}


def _counts(launch: Launch, gpu: str) -> dict[str, float]:
    """Warp instructions by kind, and sectors of 32 bytes, of a whole launch."""
    blocks = sorted({launch.blocks * eighth // 8 for eighth in (1, 3, 5, 7)})
    report = execute_addresses(launch, blocks)
    if report.faults:
        raise RuntimeError(f"{launch.name}: {report}")
    ratio = machine_instructions_per_ptx(launch.ptx, launch.entry, gpu)
    found = {
        "instructions": report.instructions,
        "machine_instructions": report.instructions * ratio,
        "loads": report.count("ld.global"),
        "stores": report.count("st.global"),
        "shared_accesses": report.count("ld.shared", "st.shared", "ldmatrix", "stmatrix"),
        "shuffles": report.count("shfl", "redux"),
        "barriers": report.count("bar.sync", "barrier"),
        "special_functions": report.count("ex2", "lg2", "rcp", "sqrt", "rsqrt", "div", "sin", "cos", "tanh"),
        "sectors": sum(t.sectors for (_, memory), t in report.traffic.items() if memory == "global"),
    }
    return {key: value * launch.blocks / len(blocks) for key, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
