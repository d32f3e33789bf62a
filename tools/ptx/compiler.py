"""Compiles one Pallas launch to PTX for a GPU that is not there."""

from __future__ import annotations

import functools
import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import jax
import numpy as np

from tools.gpu_target import mesh_of
from tools.ptx.errors import PtxError
from tools.ptx.execute import Launch
from tools.ptx.parser import entries, parse

T = TypeVar("T")
_mesh = functools.cache(mesh_of)
_compiled: dict[tuple[str, str], dict[str, Any]] = {}  # Mosaic compiles a program once and leaves no second dump


def compile_launch(
    function: Callable[..., Any],
    name: str,
    avals: Sequence[Any],
    outputs: Sequence[Any],
    aliases: dict[int, int],
    gpu: str,
) -> Launch:
    """Compiles `function`, which launches one kernel on its arguments and returns its results.

    Args:
      function: takes and returns arrays.
      name: of the kernel.
      avals: shape and dtype of each argument.
      outputs: shape and dtype of each result.
      aliases: result by argument that shares its memory.
      gpu: a key of `tools.gpu_target.DEVICES`.
    """
    found = in_new_thread(lambda: _compile(function, name, avals, gpu))

    def described(arrays: Sequence[Any]):
        return tuple((tuple(array.shape), np.dtype(array.dtype)) for array in arrays)

    return Launch(name=name, inputs=described(avals), outputs=described(outputs), aliases=aliases, **found)


def in_new_thread(function: Callable[[], T]) -> T:
    """Calls a function where no trace of JAX is in progress, with the same number of bits."""
    wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with jax.enable_x64(wide):
                results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _compile(function: Callable[..., Any], name: str, avals: Sequence[Any], gpu: str) -> dict[str, Any]:
    """The fields of a launch that its compilation decides."""
    mesh = _mesh(gpu)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    specs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=whole) for aval in avals]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(function).trace(*specs).lower(lowering_platforms=("cuda",))
        key = (gpu, lowered.as_text())
        if key not in _compiled:
            with tempfile.TemporaryDirectory(prefix="ptx_") as folder:
                options = {"xla_gpu_autotune_level": 0, "xla_gpu_dump_llvmir": True, "xla_dump_to": folder}
                with mock.patch.dict(os.environ, {"MOSAIC_GPU_DUMP_TO": folder}):
                    lowered.compile(compiler_options=options)
                _compiled[key] = _read_dump(Path(folder), name)
    return _compiled[key]


def _read_dump(folder: Path, name: str) -> dict[str, Any]:
    for path in sorted(folder.glob("*.ptx")):
        ptx = path.read_text()
        for entry in entries(ptx):
            if entry.startswith(name):
                log = next(folder.glob(f"{name}*mlir-passes.log"), None)
                fields = _mosaic_fields(log.read_text(errors="replace")) if log else _triton_fields(folder, entry)
                threads = parse(ptx, entry).threads
                return {"ptx": ptx, "entry": entry, "threads": threads, **fields}
    raise PtxError(f"XLA left no PTX of {name}; does it still accept xla_dump_to and xla_gpu_dump_llvmir?")


def _triton_fields(folder: Path, entry: str) -> dict[str, Any]:
    """Grid and shared memory, from XLA's list of what it launches."""
    [path] = folder.glob("*thunk_sequence.txt")
    match = re.search(rf"\b{entry} grid: \[(\d+), (\d+), (\d+)\].*shared_memory: (\d+) bytes", path.read_text())
    if match is None:
        raise PtxError(f"XLA's thunk sequence does not say how {entry} is launched")
    *grid, shared = map(int, match.groups())
    return {"grid": tuple(grid), "shared_bytes": shared}


def _mosaic_fields(log: str) -> dict[str, Any]:
    """Grid, shared memory and the buffer of each parameter, from Mosaic's first form of the launch.

    The launch names its arguments by the numbers of values that were loaded from a list of all buffers; a buffer that
    the kernel does not use is not among them.
    """
    match = re.search(
        r"gpu\.launch_func.*? blocks in \(%([^)]*)\) threads in .*? dynamic_shared_memory_size %(\w+) args\(([^)]*)\)",
        log,
    )
    if match is None:
        raise PtxError("Mosaic's log has no gpu.launch_func")
    grid, shared, arguments = match.groups()
    before = log[log.rfind("IR Dump", 0, match.start()) : match.start()]
    loads = dict(re.findall(r"%(\d+) = llvm\.load %(\w+)", before))
    places = {"arg1": 0} | {n: int(i) for n, i in re.findall(r"%(\d+) = llvm\.getelementptr %arg1\[(\d+)\]", before)}
    order = tuple(places[loads[number]] for number in re.findall(r"%(\d+) :", arguments))

    def constant(name: str) -> int:
        found = re.search(rf"%{name} = (?:arith|llvm\.mlir)\.constant\(?\s*\(?(-?\d+)", log)
        if found is None:
            raise PtxError(f"Mosaic's log does not define %{name}")
        return int(found.group(1))

    x, y, z = (constant(name.strip(" %")) for name in grid.split(","))
    return {"grid": (x, y, z), "shared_bytes": constant(shared), "order": order}
