"""The error of tiling: a photo predicted in tiles, compared with the same photo predicted whole.

Command:  python benchmarks/bench_tiles.py --checkpoint DIR --photo FILE [--side 640] [--tiles 448] [--overlaps 0 64]

It predicts the central crop of at most side × side pixels whole and in tiles. `rmse` and `max` are differences of the
two cubes, in the cube's unit. `step` is the 99.9th percentile of the change of the difference between neighbouring
pixels, which the eye sees as a seam. `work` is the number of predicted pixels over the pixels of the crop.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from measure import parser, save, show

import m3sr_jax
from m3sr_jax.inference.tiling import tile_starts
from m3sr_jax.io import read_rgb


def differences(tiled: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """Differences of two cubes: root mean square, maximum, and change between neighbouring pixels."""
    error = tiled - whole
    steps = np.concatenate([np.abs(np.diff(error, axis=axis)).ravel() for axis in (0, 1)])
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "max": float(np.abs(error).max()),
        "step": float(np.quantile(steps, 0.999)),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--checkpoint", type=Path, required=True)
    options.add_argument("--photo", type=Path, nargs="+", required=True)
    options.add_argument("--side", type=int, default=640)
    options.add_argument("--tiles", type=int, nargs="+", default=[448])
    options.add_argument("--overlaps", type=int, nargs="+", default=[0, 16, 32, 64, 96, 128])
    args = options.parse_args()
    predictor = m3sr_jax.load(args.checkpoint)
    rows = []
    for path in args.photo:
        rgb = read_rgb(path)
        top, left = (max(0, length - args.side) // 2 for length in rgb.shape[:2])
        rgb = rgb[top : top + args.side, left : left + args.side]
        start = time.perf_counter()
        whole = predictor.predict(rgb, tile=0)
        seconds = time.perf_counter() - start
        print(f"{path.name}: {rgb.shape[0]}×{rgb.shape[1]} whole in {seconds:.0f} s, compilation included")
        for tile in args.tiles:
            for overlap in args.overlaps:
                tiled = predictor.predict(rgb, tile=tile, overlap=overlap)
                lengths = [(length, min(tile, length)) for length in rgb.shape[:2]]
                counts = [len(tile_starts(length, size, overlap)) * size / length for length, size in lengths]
                row = {"photo": path.name, "height": rgb.shape[0], "width": rgb.shape[1]}
                row |= {"cube_rms": float(np.sqrt(np.mean(whole**2))), "tile": tile, "overlap": overlap}
                rows.append(row | {"work": float(np.prod(counts))} | differences(tiled, whole))
                show(rows[-1])
    save(rows, "tiles", args.output)


if __name__ == "__main__":
    main()
