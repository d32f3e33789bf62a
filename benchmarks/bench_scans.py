"""The scans at M3SR's shapes: every implementation, forward and gradient, time and working memory.

Command:  python benchmarks/bench_scans.py [--output benchmarks/results/cpu.jsonl] [--size 128]
On a GPU: python benchmarks/bench_scans.py --photo --torch --output benchmarks/results/gpu.jsonl

The floor is what a scan must do: each input read and each output written once (gradient: inputs and cotangent read,
gradients written). On a GPU `over_floor` is a time over that of those bytes at the rate of a large copy in the same
run. --torch adds plain PyTorch (torch_peer.py) and its largest difference from ours, relative to the largest value.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from m3sr_kernels import s6_scan, ss2d_scan, ssd_scan
from measure import compile_and_time, copy_bytes_per_s, normal_arrays, parser, save, show, tree_bytes

IMPLEMENTATIONS = ("xla", "associative", "reference")


def cases(size: int) -> dict:
    """The model's first level and its bottleneck at a size×size image: op, arguments."""
    full, small = size * size, (size // 4) ** 2

    def s6(pixels, width):
        shape = (pixels, 4, width)
        return s6_scan, normal_arrays(
            0, x=shape, dt=shape, a=(width, 16), b=(pixels, 4, 16), c=(pixels, 4, 16), d=(width,), z=shape
        )

    def ss2d(side, heads, width):
        image = (1, side, side)
        arrays = normal_arrays(0, x=(*image, heads * width), dt=(*image, 4, heads), a=(4, heads), b=(*image, 4, 8))
        return ss2d_scan, arrays | normal_arrays(1, c=(*image, 4, 8), d=(4, heads, width), dt_bias=(4, heads))

    def ssd(length, heads, width):
        arrays = normal_arrays(0, x=(1, length, heads, width), dt=(1, length, heads), a=(heads,))
        return ssd_scan, arrays | normal_arrays(1, b=(1, length, 1, 8), c=(1, length, 1, 8))

    return {
        f"s6 {full} pixels, D 62": s6(full, 62),
        f"s6 {small} pixels, D 248": s6(small, 248),
        f"ss2d {size}x{size}, 2 heads of 31 (spatial)": ss2d(size, 2, 31),
        f"ss2d {size // 2}x{size // 2}, 8 heads of 31 (frequency)": ss2d(size // 2, 8, 31),
        f"ss2d {size // 8}x{size // 8}, 31 heads of 32 (bottleneck)": ss2d(size // 8, 31, 32),
        f"ssd {full} pixels, 8 heads of 31": ssd(full, 8, 31),
    }


def photo_cases(pattern: str) -> Iterator[tuple[str, Callable, dict]]:
    """The shapes of a 482×512 photo, from each op's shapes.py: case, op, size of each argument."""
    for op in (s6_scan, ss2d_scan):
        try:
            shapes = importlib.import_module(f"m3sr_kernels.{op.__name__}.shapes").SHAPES
        except ModuleNotFoundError:
            continue
        for name, shape in shapes.items():
            case = f"{op.__name__} {name}"
            if name.startswith("photo") and re.search(pattern, case):
                yield case, op, shape.arguments


def measure_case(case: str, op: Callable, arrays: dict, implementation: str, copy_rate: float) -> list[dict]:
    """Rows of one implementation, forward and gradient."""

    def forward(arrays):
        return op(**arrays, implementation=implementation)

    def gradient(arrays):
        return jax.grad(lambda arrays: jnp.sum(jnp.sin(forward(arrays))))(arrays)

    x, rows = tree_bytes(arrays["x"]), []
    floors = {"forward": tree_bytes(arrays) + x, "gradient": 2 * tree_bytes(arrays) + x}
    modes = {"forward": forward}
    if implementation != "pallas_mosaic":  # whose gradient is XLA's
        modes["gradient"] = gradient
    for mode, function in modes.items():
        repeats = 2 if implementation in ("associative", "reference") else 5
        row: dict[str, Any] = {"case": case, "implementation": implementation, "mode": mode}
        try:
            row |= compile_and_time(function, arrays, repeats=repeats)
        # The associative scan needs more memory than many a GPU has; Mosaic's kernels need a newer one than some.
        except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
            row["error"] = str(error).partition("\n")[0][:200]
        if copy_rate and "median_s" in row:
            row |= {"floor_s": floors[mode] / copy_rate, "over_floor": row["median_s"] * copy_rate / floors[mode]}
        show(row)
        rows.append(row)
    return rows


def measure_torch(case: str, op: Callable, arrays: dict) -> list[dict]:
    """Rows of the PyTorch peer; the scan by einsums is left uncompiled: its chunks are matrix products already."""
    import torch_peer

    inputs = {name: np.asarray(array) for name, array in arrays.items()}
    try:
        times = torch_peer.time_scan(op.__name__, inputs, compiled=op is s6_scan)
    except RuntimeError as error:  # no compiler there, or too little memory
        return [{"case": case, "implementation": "torch", "error": str(error).partition("\n")[0][:200]}]
    ours = np.asarray(op(**arrays))
    difference = float(np.abs(times["y"] - ours).max() / np.abs(ours).max())
    rows = [
        {
            "case": case,
            "implementation": "torch",
            "mode": mode,
            "median_s": times[f"{mode}_s"],
            "difference": difference,
        }
        for mode in ("forward", "gradient")
    ]
    for row in rows:
        show(row)
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=128, help="side of the image")
    options.add_argument("--photo", action="store_true", help="the shapes of a 482×512 photo instead")
    options.add_argument("--torch", action="store_true", help="add plain PyTorch on the GPU")
    options.add_argument("--implementations", nargs="+")
    options.add_argument("--cases", default="", help="regular expression that a case's name must contain")
    args = options.parse_args()
    on_gpu = jax.default_backend() == "gpu"
    names = args.implementations or (
        ("pallas_triton", "pallas_mosaic", "xla", "associative") if on_gpu else IMPLEMENTATIONS
    )
    copy_rate = copy_bytes_per_s() if on_gpu else 0.0
    if on_gpu:
        save([{"copy_bytes_per_s": copy_rate}], "scans", args.output)
    if args.photo:
        chosen = ((case, op, normal_arrays(0, **sizes)) for case, op, sizes in photo_cases(args.cases))
    else:
        chosen = ((case, *how) for case, how in cases(args.size).items() if re.search(args.cases, case))
    for case, op, arrays in chosen:
        arrays["a"] = -jnp.exp(0.3 * arrays["a"])
        for name in names:
            save(measure_case(case, op, arrays, name, copy_rate), "scans", args.output)
        if args.torch:
            save(measure_torch(case, op, arrays), "scans", args.output)


if __name__ == "__main__":
    main()
