"""Times the S6 kernels with other tile sizes on this GPU, and writes the fastest into the table under its device kind.

Command:  python benchmarks/tune_tiles.py [--write] [--output benchmarks/results/gpu.jsonl]

Every size is one that keeps a warp's reads contiguous; results do not depend on it. Forward and gradient are tuned
apart, at the photo's full-size shape. Without --write nothing but the times is left.
"""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import m3sr_kernels.tiles as tile_table
from m3sr_kernels import s6_scan
from m3sr_kernels.s6_scan.shapes import SHAPES
from measure import compile_and_time, normal_arrays, parser, save, show

KERNELS = importlib.import_module("m3sr_kernels.s6_scan.pallas_triton")
TABLE = Path(tile_table.__file__).with_name("tiles.json")
CANDIDATES = [
    {"rows": rows, "columns": columns, "num_warps": warps}
    for rows, columns, warps in itertools.product((2, 4, 8, 16), (32, 64, 128), (1, 2, 4, 8))
    if 1 <= rows * columns // (32 * warps) <= 4
]


def time_candidate(arrays: dict[str, jax.Array], prefix: str, candidate: dict[str, int]) -> dict[str, Any]:
    """A row with the candidate's time, or with the reason why it does not run."""
    tuned = tile_table.tiles("s6_scan") | {prefix + name: value for name, value in candidate.items()}

    def forward(arrays):
        return s6_scan(**arrays, implementation="pallas_triton")

    def gradient(arrays):
        return jax.grad(lambda arrays: jnp.sum(forward(arrays)))(arrays)

    row: dict[str, Any] = {"op": "s6_scan", "mode": "gradient" if prefix else "forward"} | candidate
    jax.clear_caches()  # a kernel is traced once for its arguments, whatever the table says now
    with mock.patch.object(KERNELS, "tiles", return_value=tuned):
        try:
            row |= compile_and_time(gradient if prefix else forward, arrays, repeats=3)
        except jax.errors.JaxRuntimeError as error:
            row["error"] = str(error).partition("\n")[0][:200]
    show(row)
    return row


def write_table(kind: str, best: dict[str, int]) -> None:
    """Puts the values under the device's name, one line a device, and replaces the file in one step."""
    table = json.loads(TABLE.read_text())
    table["s6_scan"][kind] = best
    ops = [
        f'  "{op}": {{\n' + ",\n".join(f'    "{name}": {json.dumps(sizes)}' for name, sizes in kinds.items()) + "\n  }"
        for op, kinds in table.items()
    ]
    draft = TABLE.with_suffix(".tmp")
    draft.write_text("{\n" + ",\n".join(ops) + "\n}\n")
    draft.replace(TABLE)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--case", default="photo, full", choices=list(SHAPES))
    options.add_argument("--write", action="store_true", help=f"put the fastest into {TABLE.name}")
    args = options.parse_args()
    if jax.default_backend() != "gpu":
        raise SystemExit("error: found no GPU that JAX can use; tile sizes are tuned on the device they are for")
    arrays = normal_arrays(0, **SHAPES[args.case].arguments)
    arrays["a"] = -jnp.exp(0.3 * arrays["a"])
    rows, best = [], tile_table.tiles("s6_scan")
    for prefix in ("", "gradient_"):
        tried = [time_candidate(arrays, prefix, candidate) for candidate in CANDIDATES]
        rows += tried
        fastest = min((row for row in tried if "median_s" in row), key=lambda row: row["median_s"])
        best |= {prefix + name: fastest[name] for name in CANDIDATES[0]}
    kind = jax.devices()[0].device_kind
    print(f"fastest on {kind}: {best}")
    if args.write:
        write_table(kind, best)
    save(rows, "tiles", args.output)


if __name__ == "__main__":
    main()
