"""The scans at M3SR's shapes: time and working memory of every implementation, forward and gradient.

Command:  python benchmarks/bench_scans.py [--output benchmarks/results/cpu.jsonl] [--size 128]
On a GPU: python benchmarks/bench_scans.py --photo --torch --output benchmarks/results/gpu.jsonl

On a GPU `over_floor` is the time over the least time that memory allows: each input read and each output written once
(gradient: inputs and cotangent read, gradients written) at the rate of a large copy in the same run. --torch adds plain
PyTorch (torch_peer.py) and its largest difference from ours, relative to the largest value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from m3sr_kernels import s6_scan, ss2d_scan, ssd_scan
from m3sr_kernels.s6_scan import shapes as s6_shapes
from m3sr_kernels.ss2d_scan import shapes as ss2d_shapes
from m3sr_kernels.ssd_scan import shapes as ssd_shapes
from measure import (
    backend,
    compile_and_time,
    copy_bytes_per_s,
    normal_arrays,
    parser,
    runnable,
    save,
    show,
    shrunk,
    tree_bytes,
)

IMPLEMENTATIONS = ("xla", "associative", "reference")
Case = tuple[str, Callable, dict[str, tuple[int, ...]]]


def image_cases(size: int) -> Iterator[Case]:
    """Yields the scans of the model's first level and bottleneck for a size×size image: case, op, argument shapes."""
    full, small = size**2, (size // 4) ** 2
    for name, op, shape in (
        (f"s6 {full} pixels, D 62", s6_scan, s6_shapes.Shape(full, 4, 62)),
        (f"s6 {small} pixels, D 248", s6_scan, s6_shapes.Shape(small, 4, 248)),
        (f"ss2d {size}x{size} (spatial)", ss2d_scan, ss2d_shapes.Shape(1, size, size, 2, 31, 8)),
        (f"ss2d {size // 2}x{size // 2} (frequency)", ss2d_scan, ss2d_shapes.Shape(1, size // 2, size // 2, 8, 31, 8)),
        (
            f"ss2d {size // 8}x{size // 8} (bottleneck)",
            ss2d_scan,
            ss2d_shapes.Shape(1, size // 8, size // 8, 31, 32, 8),
        ),
        (f"ssd {full} pixels, 8 heads", ssd_scan, ssd_shapes.Shape(1, full, 8, 31, 1, 8)),
    ):
        yield name, op, shape.arguments


def photo_cases() -> Iterator[Case]:
    """Yields the scans of a 482×512 photo: case, op, argument shapes."""
    for op, shapes in ((s6_scan, s6_shapes), (ss2d_scan, ss2d_shapes)):
        for name, shape in shapes.SHAPES.items():
            if name.startswith("photo"):
                yield f"{op.__name__} {name}", op, shrunk(shape).arguments


def measure_case(case: str, op: Callable, arrays: dict, implementation: str, copy_rate: float) -> list[dict]:
    """Rows of one implementation, forward and gradient."""

    def forward(arrays):
        return op(**arrays, implementation=runnable(implementation))

    def gradient(arrays):
        return jax.grad(lambda arrays: jnp.sum(jnp.sin(forward(arrays))))(arrays)

    x, rows = tree_bytes(arrays["x"]), []
    floors = {"forward": tree_bytes(arrays) + x, "gradient": 2 * tree_bytes(arrays) + x}
    for mode, function in {"forward": forward, "gradient": gradient}.items():
        repeats = 2 if implementation in ("associative", "reference") else 5
        row: dict[str, Any] = {"case": case, "implementation": implementation, "mode": mode}
        try:
            row |= compile_and_time(function, arrays, repeats=repeats)
        # The associative scan needs more memory than many GPUs have; Mosaic's kernels need sm_90.
        except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
            row["error"] = str(error).partition("\n")[0][:200]
        if copy_rate and "median_s" in row:
            row |= {"floor_s": floors[mode] / copy_rate, "over_floor": row["median_s"] * copy_rate / floors[mode]}
        show(row)
        rows.append(row)
    return rows


def measure_torch(case: str, op: Callable, arrays: dict) -> list[dict]:
    """Rows of plain PyTorch. Only S6 goes through torch.compile: ss2d_scan is matrix products already."""
    import torch_peer

    inputs = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        times = torch_peer.time_scan(op.__name__, inputs, compiled=op is s6_scan)
    except RuntimeError as error:  # no compiler, or out of memory
        return [{"case": case, "implementation": "torch", "error": str(error).partition("\n")[0][:200]}]
    ours = np.asarray(op(**arrays, implementation=runnable(None)))
    difference = float(np.abs(times["y"] - ours).max() / np.abs(ours).max())
    rows = []
    for mode in ("forward", "gradient"):
        row = {"case": case, "implementation": "torch", "mode": mode, "median_s": times[f"{mode}_s"]}
        rows.append(row | {"difference": difference})
        show(rows[-1])
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=128, help="side of the image")
    options.add_argument("--photo", action="store_true", help="use the shapes of a 482×512 photo")
    options.add_argument("--torch", action="store_true", help="add plain PyTorch on the GPU")
    options.add_argument("--implementations", nargs="+")
    options.add_argument("--cases", default="", help="run only the cases whose name matches this regular expression")
    args = options.parse_args()
    on_gpu = backend() == "gpu"
    names = args.implementations or (
        ("pallas_triton", "pallas_mosaic", "xla", "associative") if on_gpu else IMPLEMENTATIONS
    )
    copy_rate = copy_bytes_per_s() if on_gpu else 0.0
    if on_gpu:
        save([{"copy_bytes_per_s": copy_rate}], "scans", args.output)
    for case, op, shapes in photo_cases() if args.photo else image_cases(args.size):
        if not re.search(args.cases, case):
            continue
        arrays = normal_arrays(0, **shapes)
        arrays["a"] = -jnp.exp(0.3 * arrays["a"])
        for name in names:
            save(measure_case(case, op, arrays, name, copy_rate), "scans", args.output)
        if args.torch:
            save(measure_torch(case, op, arrays), "scans", args.output)


if __name__ == "__main__":
    main()
