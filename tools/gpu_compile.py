"""Compiles every GPU kernel to machine code, on a machine without a GPU: registers and spills.

Command:  make gpu-compile            (or, in its environment: .venv-gpu/bin/python tools/gpu_compile.py --help)

XLA compiles every op, value and gradient, at the shapes in its shapes.py from a description of the GPU; "pallas_mosaic"
needs sm_90. `ptxas -v` then reports registers and spills. The exit code is 1 if a forward kernel spills.

The most important programs come first: full size, float32, every device. A stopped run can be repeated: it skips
programs that --output already contains, identified by the digest of the lowered text. A program that has changed
replaces its old rows. With --table it compiles nothing and prints the registers in --output as Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

DUMP = tempfile.TemporaryDirectory(prefix="gpu_compile_")
os.environ["MOSAIC_GPU_DUMP_TO"] = DUMP.name
# Autotuning is off: it would only tune the matrix products around the kernels.
DUMP_FLAGS = f"--xla_dump_to={DUMP.name} --xla_dump_emitter_re=.* --xla_gpu_dump_llvmir=true"
os.environ["XLA_FLAGS"] = f"{DUMP_FLAGS} --xla_gpu_autotune_level=0"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import m3sr_kernels.tiles  # noqa: E402
from gpu_target import DEVICES, mesh_of  # noqa: E402
from m3sr_kernels.gpu_call import MIN_CAPABILITY  # noqa: E402

REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", nargs="+", default=list(ops_with_shapes()))
    parser.add_argument("--devices", nargs="+", default=list(DEVICES), choices=list(DEVICES))
    parser.add_argument("--cases", default="", help="regular expression that a shape's name must contain")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--implementations", nargs="+", default=list(MIN_CAPABILITY), choices=list(MIN_CAPABILITY))
    parser.add_argument("--output", type=Path, help="JSON-lines file to add to")
    parser.add_argument("--table", action="store_true", help="print the registers in --output")
    args = parser.parse_args()
    if args.table:
        if args.output is None:
            parser.error("--table: name the file of rows with --output")
        print(table(args.output))
        return 0
    jax.config.update("jax_traceback_in_locations_limit", 0)  # or the digest would depend on line numbers
    done, forward_spills = recorded(args.output), 0
    # A process writes the PTX of a Mosaic kernel once, even if several programs contain it.
    fresh_processes = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    for job in jobs(args):
        device, op, case, dtype, _ = job
        lowered = lower_op(*job)
        program = hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]
        key: dict[str, Any] = {"device": device, "op": op, "case": case, "dtype": dtype}
        key |= {"program": program, "jax": jax.__version__}
        rows = done.get(tuple(key.values()), [])
        if not rows:
            started = time.perf_counter()
            found = fresh_processes.submit(compile_op, *job).result()
            seconds: dict[str, Any] = {"compile_s": round(time.perf_counter() - started, 1)}
            rows = [{"benchmark": "gpu_compile", **key, **kernel, **seconds} for kernel in found]
            show(rows)
            if args.output:
                save(rows, args.output)
        forward_spills += sum("backward" not in row["kernel"] and row["spill_stores"] > 0 for row in rows)
    return int(forward_spills > 0)


def jobs(args: argparse.Namespace) -> list[tuple[str, str, str, str, str]]:
    """Device, op, case, dtype and implementation of each program, the most important first."""
    every = itertools.product(args.devices, args.ops, args.dtypes, args.implementations)
    chosen = [
        (device, op, case, dtype, implementation)
        for device, op, dtype, implementation in every
        for case in shapes_of(op)
    ]
    chosen = [job for job in chosen if re.search(args.cases, job[2])]
    chosen = [job for job in chosen if job[3] == "float32" or job[2].startswith("training")]
    chosen = [job for job in chosen if job[4] == "pallas_triton" or has_mosaic(job[0], job[1])]
    return sorted(chosen, key=lambda job: (job[3] != "float32", not job[2].endswith("full"), job[0] != args.devices[0]))


def has_mosaic(device: str, op: str) -> bool:
    """Mosaic needs sm_90; the token mixer's only Mosaic kernel is that of `s6_scan`."""
    return DEVICES[device][0] >= (9, 0) and op != "mamba_token_mix"


def recorded(output: Path | None) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The rows of --output that name their program, grouped by program."""
    lines = output.read_text().splitlines() if output and output.exists() else []
    by_program: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in map(json.loads, lines):
        if "program" in row:
            key = tuple(row[name] for name in ("device", "op", "case", "dtype", "program", "jax"))
            by_program.setdefault(key, []).append(row)
    return by_program


def ops_with_shapes() -> Iterator[str]:
    """The ops of `m3sr_kernels`: its packages that have a shapes.py."""
    for module in pkgutil.iter_modules(m3sr_kernels.__path__):
        if module.ispkg and any(Path(path, module.name, "shapes.py").exists() for path in m3sr_kernels.__path__):
            yield module.name


def shapes_of(op: str) -> dict[str, Any]:
    return importlib.import_module(f"m3sr_kernels.{op}.shapes").SHAPES


def lower_op(device: str, op: str, case: str, dtype: str, implementation: str) -> jax.stages.Lowered:
    """Lowers value and gradient for an absent device."""
    mesh, shape = mesh_of(device), shapes_of(op)[case]
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def array(size: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Parameters have no batch axis and stay float32."""
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape[0] else "float32", sharding=whole)

    def loss(arguments: dict[str, Any]) -> jax.Array:
        y = getattr(m3sr_kernels, op)(**arguments, implementation=implementation)
        return jnp.sum(jnp.sin(y.astype(jnp.float32)))

    arguments = jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))
    jax.clear_caches()  # or a kernel would keep the tile sizes of the device it was first traced for
    device_tiles = mock.patch.object(m3sr_kernels.tiles, "_local_kind", return_value=device)
    with device_tiles, jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return jax.jit(jax.value_and_grad(loss)).trace(arguments).lower(lowering_platforms=("cuda",))


def compile_op(*job: str) -> list[dict[str, Any]]:
    """Compiles a program of `jobs` and returns what ptxas reports for each of our kernels in it."""
    device, lowered = job[0], lower_op(*job)
    text = lowered.as_text()
    triton, mosaic = r'\bname = "(\w+)", num_stages', r"\\00(\w+_mosaic_gpu)\\00"
    ours = {*re.findall(triton, text), *re.findall(mosaic, text)} - {"stable_mosaic_gpu"}
    with jax.sharding.use_abstract_mesh(mesh_of(device).abstract_mesh):
        lowered.compile()
    files = sorted(Path(DUMP.name).glob("*.ptx"))
    found = [row for path in files for row in resources(path, DEVICES[device][1], ours)]
    missing = ours - {base_name(row["kernel"]) for row in found}
    if missing or not ours:
        names = ", ".join(sorted(missing)) or "any kernel"
        raise SystemExit(f"error: found no PTX of {names}; does XLA still accept {DUMP_FLAGS}?")
    return found


def resources(ptx: Path, arch: str, ours: set[str]) -> Iterator[dict[str, Any]]:
    """What ptxas reports for the kernels of these names in a file.

    In PTX the name of a second call ends in "__1", that of a Mosaic kernel in "_kernel".
    """
    if not re.search(rf"\.entry ({'|'.join(ours)})(__\d+|_kernel)?\b", ptx.read_text()):
        return
    command = [str(find_ptxas()), "-v", f"-arch={arch}", str(ptx), "-o", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    for name, stack, stores, loads, registers in REPORT.findall(report):
        if base_name(name) in ours:
            numbers = {"registers": registers, "spill_stores": stores, "spill_loads": loads, "stack": stack}
            yield {"kernel": name} | {key: int(value) for key, value in numbers.items()}


def base_name(entry: str) -> str:
    """The kernel's name in the lowered program."""
    return entry.partition("__")[0].replace("_mosaic_gpu_kernel", "_mosaic_gpu")


def find_ptxas() -> Path:
    """The assembler in the CUDA packages that jax installed."""
    folders = [Path(folder) for folder in sys.path if folder.endswith("site-packages")]
    return next(path for folder in folders for path in folder.glob("nvidia/*/bin/ptxas"))


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        where = f"{row['device']:16} {row['op']:16} {row['case']:24} {row['dtype']:9} {row['kernel']:22}"
        numbers = f"registers {row['registers']:4}  spills {row['spill_stores']:5} {row['spill_loads']:5}"
        print(f"{where} {numbers}  {row['compile_s']} s", flush=True)


def save(rows: list[dict[str, Any]], output: Path) -> None:
    """Writes all kernels of a program at once, in place of the rows of an earlier version of it.

    A program with some of its rows would count as done.
    """

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        mosaic = "mosaic_gpu" in row.get("kernel", "")
        return (*(row.get(name) for name in ("device", "op", "case", "dtype", "jax")), mosaic)

    replaced = {place(row) for row in rows}
    lines = output.read_text().splitlines() if output.exists() else []
    kept = [line for line in lines if place(json.loads(line)) not in replaced]
    output.parent.mkdir(parents=True, exist_ok=True)
    written = output.with_suffix(".new")
    written.write_text("".join(f"{line}\n" for line in kept + [json.dumps(row) for row in rows]))
    written.replace(output)


def table(output: Path) -> str:
    """Formats the registers of each kernel as Markdown: lowest to highest over the programs, and bytes spilled."""
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for row in map(json.loads, output.read_text().splitlines()):
        found.setdefault((row["op"], base_name(row["kernel"])), {}).setdefault(row["device"], []).append(row)
    lines = [f"| op | kernel | {' | '.join(DEVICES)} |", "|---|---|" + "---|" * len(DEVICES)]
    for (op, kernel), of_device in sorted(found.items()):
        cells = [f"`{op}`", f"`{kernel}`", *(cell(of_device.get(device, [])) for device in DEVICES)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "–"
    registers = sorted({row["registers"] for row in rows})
    spilled = max(row["spill_stores"] for row in rows)
    spread = f"{registers[0]}–{registers[-1]}" if len(registers) > 1 else f"{registers[0]}"
    return spread + (f", spills {spilled}" if spilled else "")


if __name__ == "__main__":
    sys.exit(main())
