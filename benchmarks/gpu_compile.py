"""Compiles every GPU kernel to machine code, on a machine without a GPU: registers and spills.

Command:  make gpu-compile            (or, in its environment: .venv-gpu/bin/python benchmarks/gpu_compile.py --help)

Each op is compiled forward and backward at the shapes of its shapes.py, by XLA for a GPU that it is only told about;
`ptxas` then reports on the PTX that XLA left. It exits with 1 if a forward kernel spills registers to memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DUMP = Path(tempfile.mkdtemp(prefix="gpu_compile_"))
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["LLVM_DISABLE_SYMBOLIZATION"] = "1"  # else minutes go into stack traces that nobody sees
# Without autotuning: the matrix products around the kernels are not what is looked at.
DUMP_FLAGS = f"--xla_dump_to={DUMP} --xla_dump_emitter_re=.* --xla_gpu_dump_llvmir=true"
os.environ["XLA_FLAGS"] = f"{DUMP_FLAGS} --xla_gpu_autotune_level=0"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import m3sr_kernels  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402

# By the vendor's data sheets: capability, architecture for ptxas, multiprocessors, shared memory and fp32 lanes of one,
# L2 and memory in bytes, memory bytes/s, GHz.
DEVICES = {
    "NVIDIA H200": ((9, 0), "sm_90a", 132, 233472, 128, 52428800, 151397597184, 4.8e12, 1.98),
    "NVIDIA A100": ((8, 0), "sm_80", 108, 167936, 64, 41943040, 85100068864, 2.04e12, 1.41),
    "NVIDIA RTX 4090": ((8, 9), "sm_89", 128, 102400, 128, 75497472, 25393692672, 1.008e12, 2.52),
}
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
    parser.add_argument("--implementation", default="pallas_triton")
    parser.add_argument("--output", type=Path, help="JSON-lines file to append to")
    args = parser.parse_args()
    forward_spills = 0
    for device in args.devices:
        for op in args.ops:
            for case, shape in shapes_of(op).items():
                for dtype in args.dtypes:
                    if not re.search(args.cases, case) or (dtype == "bfloat16" and case.startswith("photo")):
                        continue
                    started = time.perf_counter()
                    where: dict[str, Any] = {"device": device, "op": op, "case": case, "dtype": dtype}
                    for found in compile_op(op, shape, jnp.dtype(dtype), device, args.implementation):
                        row: dict[str, Any] = where | found | {"compile_s": round(time.perf_counter() - started, 1)}
                        forward_spills += "backward" not in row["kernel"] and row["spill_stores"] > 0
                        show_and_save(row, args.output)
    return int(forward_spills > 0)


def ops_with_shapes() -> Iterator[str]:
    """The ops of `m3sr_kernels`, which are its packages with a shapes.py."""
    for module in pkgutil.iter_modules(m3sr_kernels.__path__):
        if module.ispkg and any(Path(path, module.name, "shapes.py").exists() for path in m3sr_kernels.__path__):
            yield module.name


def shapes_of(op: str) -> dict[str, Any]:
    return importlib.import_module(f"m3sr_kernels.{op}.shapes").SHAPES


def compile_op(op: str, shape: Any, dtype: Any, device: str, implementation: str) -> Iterator[dict[str, Any]]:
    """Compiles value and gradient, and yields what ptxas says of each of our kernels in them."""
    [topology_device] = topologies.get_topology_desc(
        platform="cuda", target_config=target_config(device), topology="1x1x1"
    ).devices
    mesh = jax.sharding.Mesh(np.array([topology_device]), ("x",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def array(size: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        """Parameters, which have no batch axis, are float32."""
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape[0] else jnp.float32, sharding=whole)

    def loss(arguments: dict[str, Any]) -> jax.Array:
        y = getattr(m3sr_kernels, op)(**arguments, implementation=implementation)
        return jnp.sum(jnp.sin(y.astype(jnp.float32)))

    arguments = jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))
    earlier = set(DUMP.glob("*.ptx"))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(jax.value_and_grad(loss)).trace(arguments).lower(lowering_platforms=("cuda",)).compile()
    for path in sorted(set(DUMP.glob("*.ptx")) - earlier):
        yield from resources(path, DEVICES[device][1])
    for path in DUMP.iterdir():
        if path.suffix != ".ptx":
            path.unlink()


def target_config(device: str) -> str:
    """A GpuTargetConfigProto, XLA's description of a GPU, as text."""
    (major, minor), arch, cores, shared, lanes, cache, memory, bandwidth, clock = DEVICES[device]
    feature = "feature_extension: ACCELERATED_FEATURES" if arch.endswith("a") else ""
    return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: {2048 if minor == 0 else 1536}
      shared_memory_per_block: 49152  shared_memory_per_core: {shared}  shared_memory_per_block_optin: {shared - 1024}
      core_count: {cores}  fpus_per_core: {lanes}  clock_rate_ghz: {clock}
      block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
      thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
      memory_bandwidth: {int(bandwidth)}  l2_cache_size: {cache}  device_memory_size: {memory}
      cuda_compute_capability {{ major: {major} minor: {minor} {feature} }}
      registers_per_core_limit: 65536  registers_per_block_limit: 65536
      dnn_version: "9.10.0"  runtime_version: "13.0.0"  driver_version: "13.0.0"
    }}
    platform_name: "CUDA"  dnn_version_info {{ major: 9 minor: 10 }}  device_description_str: "{device}"
    """


def resources(ptx: Path, arch: str) -> Iterator[dict[str, Any]]:
    """What ptxas reports of the kernels in a file whose names begin with an op's; XLA's own are left out."""
    ours = ("s6_", "causal_conv", "ssd_", "ss2d_", "chunk_", "m3sr_")
    if not re.search(rf"\.entry ({'|'.join(ours)})", ptx.read_text()):
        return
    command = [str(find_ptxas()), "-v", f"-arch={arch}", str(ptx), "-o", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    for name, stack, stores, loads, registers in REPORT.findall(report):
        if name.startswith(ours):
            numbers = {"registers": registers, "spill_stores": stores, "spill_loads": loads, "stack": stack}
            yield {"kernel": name} | {key: int(value) for key, value in numbers.items()}


def find_ptxas() -> Path:
    """The assembler among the CUDA packages that jax installed."""
    folders = [Path(folder) for folder in sys.path if folder.endswith("site-packages")]
    return next(path for folder in folders for path in folder.glob("nvidia/*/bin/ptxas"))


def show_and_save(row: dict[str, Any], output: Path | None) -> None:
    where = f"{row['device']:16} {row['op']:16} {row['case']:24} {row['dtype']:9} {row['kernel']:22}"
    numbers = f"registers {row['registers']:4}  spills {row['spill_stores']:5} {row['spill_loads']:5}"
    print(f"{where} {numbers}  {row['compile_s']} s", flush=True)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a") as file:
            file.write(json.dumps({"benchmark": "gpu_compile", **row, "jax": jax.__version__}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
