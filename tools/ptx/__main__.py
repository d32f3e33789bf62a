"""Runs one op's compiled kernels: value and gradient against float64, or counts at one of the model's shapes.

    .venv-gpu/bin/python -m tools.ptx ss2d_scan --sizes 2 13 23 3 31 8 --dtype bfloat16 --order last
    .venv-gpu/bin/python -m tools.ptx ss2d_scan --count "photo, spatial, full"

The first prints, for every result, its largest difference to float64 over the largest value; for every launch, the
instructions a warp; and what the checker found. The exit code is 1 if it found anything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

import jax

jax.config.update("jax_platforms", "cpu")

from tools.gpu_target import DEVICES  # noqa: E402
from tools.ptx.counts import rows_of  # noqa: E402
from tools.ptx.ops import compare, shapes_module  # noqa: E402
from tools.ptx.recording import save  # noqa: E402
from tools.ptx.scheduler import Order  # noqa: E402

SIZES = {
    "s6_scan": (13, 4, 67, 16),
    "mamba_token_mix": (13, 4, 31, 16),
    "ssd_scan": (2, 300, 6, 31, 2, 8),
    "ss2d_scan": (2, 13, 23, 3, 31, 8),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", choices=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="the fields of the op's Shape, in order")
    parser.add_argument("--count", metavar="CASE", help="count instructions at a shape of the op's shapes.py")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float64"])
    parser.add_argument("--implementation", default="pallas_triton", choices=["pallas_triton", "pallas_mosaic"])
    parser.add_argument("--gpu", default="NVIDIA H200", choices=list(DEVICES))
    parser.add_argument("--order", default="together", choices=get_args(Order), help="of the warps of a block")
    parser.add_argument("--noise", type=float, default=0.0, help="relative error of approximate instructions")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep every launch in a file")
    args = parser.parse_args()
    shapes = shapes_module(args.op)
    if args.count:
        for row in rows_of(args.op, args.count, args.implementation, args.dtype, args.gpu):
            show_counts(row)
        return 0
    shape = shapes.Shape(*(args.sizes or SIZES[args.op]))
    settings = {"gpu": args.gpu, "order": args.order, "noise": args.noise}
    result = compare(args.op, shape, args.dtype, args.implementation, **settings)
    for number, run in enumerate(result.launches):
        launch, each = run.launch, run.report.instructions / run.report.warps
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            path = args.save / f"{args.op}_{number}_{launch.name}_{args.dtype}_{args.implementation}.npz"
            save(path, launch, run.arrays, run.outputs)
        print(f"{launch.name:30} grid {launch.grid} × {launch.threads[0]} threads: {each:.0f} instructions a warp")
    print("largest difference over the largest value:")
    print("  ".join(f"{name} {error:.1e}" for name, error in result.errors.items()))
    print("\n".join(result.faults) or "no faults")
    return int(bool(result.faults))


def show_counts(row: dict[str, Any]) -> None:
    print(f"{row['kernel']:30} grid {row['grid']} × {row['threads']} threads, a pixel and direction:")
    counts = {key: value for key, value in row.items() if isinstance(value, float)}
    print("   ", "  ".join(f"{key} {value:g}" for key, value in counts.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
