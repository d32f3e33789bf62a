"""Times the GPU kernels with other tile sizes on this GPU; --write puts the fastest into tiles.json for its kind.

Command:  python benchmarks/tune_tiles.py [--ops s6_scan causal_conv ss2d_scan ssd_scan] [--write]
                                          [--output benchmarks/results/gpu.jsonl]

All sizes keep a warp's reads contiguous; results do not depend on them. Each op is tuned at the full-size shape of a
photo: the forward pass first, then the gradient with the forward pass's choice. --lower-only works without a GPU: it
lowers every candidate for CUDA, and neither times nor writes.
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import m3sr_kernels
import m3sr_kernels.tiles as tile_table
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.mamba_token_mix.triton_causal_conv import causal_conv_silu
from measure import compile_and_time, normal_arrays, parser, save, show

TABLE = Path(tile_table.__file__).with_name("tiles.json")
CASES = {"s6_scan": "photo, full", "ss2d_scan": "photo, spatial, full", "ssd_scan": "photo, spatial, full"}
Candidates = list[dict[str, int]]


def grid(**values: tuple[int, ...]) -> Candidates:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def tiles_of_a_block(prefix: str) -> Candidates:
    """Tile sizes with 1 to 4 numbers per thread."""
    sizes = grid(rows=(2, 4, 8, 16), columns=(32, 64, 128), num_warps=(1, 2, 4, 8))
    fitting = [size for size in sizes if 1 <= size["rows"] * size["columns"] // (32 * size["num_warps"]) <= 4]
    return [{prefix + name: value for name, value in size.items()} for size in fitting]


# A snapshot is a multiple of unroll and rebuild; the gradient is tuned with the forward pass's chunk and unroll.
SSD = {
    "forward": grid(chunk=(32, 64, 128), heads=(1, 2, 4), unroll=(2, 4, 8)),
    "gradient": grid(gradient_heads=(1, 2, 4), snapshot=(8, 16, 32), rebuild=(2, 4, 8)),
}
SEARCHES: dict[str, dict[str, Candidates]] = {
    "s6_scan": {"forward": tiles_of_a_block(""), "gradient": tiles_of_a_block("gradient_")},
    "causal_conv": {"gradient": tiles_of_a_block("")},  # forward pass and gradient share one size
    "ss2d_scan": SSD,
    "ssd_scan": SSD,
}


def sizes_of(op: str) -> dict[str, tuple[int, ...]]:
    """Argument → shape, for an op."""
    if op == "causal_conv":
        pixels, tokens, channels = sizes_of("s6_scan")["x"]
        return {"x": (pixels, tokens, channels), "kernel": (4, channels), "bias": (channels,)}
    return importlib.import_module(f"m3sr_kernels.{op}.shapes").SHAPES[CASES[op]].arguments


def function_of(op: str, mode: str) -> Callable[[dict[str, Any]], Any]:
    """The op with its Triton kernels, or its gradient."""

    def forward(arrays):
        if op == "causal_conv":
            return causal_conv_silu(GpuCall(op, "pallas_triton"), **arrays)
        return getattr(m3sr_kernels, op)(**arrays, implementation="pallas_triton")

    return forward if mode == "forward" else jax.grad(lambda arrays: jnp.sum(forward(arrays)))


def try_candidate(op: str, mode: str, arrays: dict[str, Any], tuned: dict[str, int], *, lower: bool) -> dict[str, Any]:
    """Times the tile sizes `tuned`, or returns the reason for failing under "error"; `lower` only lowers."""
    jax.clear_caches()  # or a kernel traced before would keep the old sizes
    device_kind = tile_table._local_kind()
    with mock.patch.dict(tile_table.TABLE[op], {device_kind: tuned}):
        if lower:
            jax.jit(function_of(op, mode)).trace(arrays).lower(lowering_platforms=("cuda",))
            return {}
        try:
            return compile_and_time(function_of(op, mode), arrays, repeats=3)
        except jax.errors.JaxRuntimeError as error:
            return {"error": str(error).partition("\n")[0][:200]}


def tune(op: str, *, lower: bool, output: Path | None) -> dict[str, int]:
    """Tries every candidate of an op, saves the times, and returns the table entry with the fastest sizes."""
    shapes = sizes_of(op)
    if lower:
        arrays = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    else:
        arrays = normal_arrays(0, **shapes)
        arrays |= {"a": -jnp.exp(0.3 * arrays["a"])} if "a" in arrays else {}
    best = tile_table.tiles(op)
    for mode, candidates in SEARCHES[op].items():
        times = []
        for candidate in candidates:
            tuned = best | candidate
            if tuned.get("snapshot", 0) % tuned.get("unroll", 1):
                continue
            row = {"op": op, "mode": mode, **candidate, **try_candidate(op, mode, arrays, tuned, lower=lower)}
            show(row)
            if not lower:
                save([row], "tiles", output)
            if "median_s" in row:
                times.append((row["median_s"], candidate))
        best |= min(times, key=lambda timed: timed[0])[1] if times else {}
    return best


def write_table(op: str, kind: str, best: dict[str, int]) -> None:
    """Writes the sizes under the device's name, one line per device, and replaces the file atomically."""
    table = json.loads(TABLE.read_text())
    table[op][kind] = best
    ops = [
        f'  "{op}": {{\n' + ",\n".join(f'    "{name}": {json.dumps(sizes)}' for name, sizes in kinds.items()) + "\n  }"
        for op, kinds in table.items()
    ]
    draft = TABLE.with_suffix(".tmp")
    draft.write_text("{\n" + ",\n".join(ops) + "\n}\n")
    draft.replace(TABLE)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--ops", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    options.add_argument("--write", action="store_true", help=f"write the fastest sizes into {TABLE.name}")
    options.add_argument("--lower-only", action="store_true", help="only check that every candidate lowers for CUDA")
    args = options.parse_args()
    if jax.default_backend() != "gpu" and not args.lower_only:
        raise SystemExit("error: JAX found no GPU; tune tile sizes on the GPU they are for, or pass --lower-only")
    for op in args.ops:
        best = tune(op, lower=args.lower_only, output=args.output)
        if args.lower_only:
            continue
        kind = jax.devices()[0].device_kind
        print(f"fastest {op} on {kind}: {best}")
        if args.write:
            write_table(op, kind, best)


if __name__ == "__main__":
    main()
