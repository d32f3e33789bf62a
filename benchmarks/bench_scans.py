"""The scans at M3SR's shapes: every implementation, forward and gradient, time and working memory.

Command:  python benchmarks/bench_scans.py [--output benchmarks/results/cpu.jsonl] [--size 128]

The floor is what a scan must do: each input read and each output written once. `share` is an implementation's forward
time over that of "xla".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from m3sr_kernels import s6_scan, ss2d_scan, ssd_scan
from measure import compile_and_time, normal_arrays, parser, save, show

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


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=128, help="side of the image")
    options.add_argument("--implementations", nargs="+", default=IMPLEMENTATIONS)
    args = options.parse_args()
    rows = []
    for case, (op, arrays) in cases(args.size).items():
        arrays["a"] = -jnp.exp(0.3 * arrays["a"])
        for name in args.implementations:

            def forward(arrays, op=op, name=name):
                return op(**arrays, implementation=name)

            def gradient(arrays, forward=forward):
                return jax.grad(lambda arrays: jnp.sum(jnp.sin(forward(arrays))))(arrays)

            for mode, function in (("forward", forward), ("gradient", gradient)):
                repeats = 5 if name == "xla" else 2
                row = {"case": case, "implementation": name, "mode": mode}
                row |= compile_and_time(function, arrays, repeats=repeats)
                show(row)
                rows.append(row)
    save(rows, "scans", args.output)


if __name__ == "__main__":
    main()
