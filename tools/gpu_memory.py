"""Memory that the whole model needs on a GPU, from compiling it for an H200 on a machine without one.

Command:  make gpu-memory            (or, in its environment: .venv-gpu/bin/python tools/gpu_memory.py --help)

It compiles the forward pass of one 482×512 photo and the training step of 32 crops of 128×128, and runs nothing. XLA
reports `temp_mib`, the working memory; `argument_mib` and `output_mib`, the inputs and results; and `alias_mib`, the
part of the results that reuses the inputs' memory (the state of a training step).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from gpu_target import mesh_of

from m3sr_jax import M3SR
from m3sr_jax.config import OptimConfig
from m3sr_jax.models import init_params
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

DEVICE = "NVIDIA H200"
MODES = {"forward": (1, 482, 512), "training step": (32, 128, 128)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--implementations", nargs="+", default=["pallas_triton", "pallas_mosaic", "xla"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--remat", action="store_true", help="recompute each block's activations in the gradient")
    parser.add_argument("--output", type=Path, help="JSON-lines file; a row replaces that of the same program")
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"  # autotuning needs the device
    for dtype, mode, implementation in itertools.product(args.dtypes, args.modes, args.implementations):
        where = {"device": DEVICE, "mode": mode, "shape": "x".join(map(str, MODES[mode]))}
        where |= {"scans": implementation, "dtype": dtype, "remat": args.remat}
        model = M3SR(implementation=implementation, dtype=jnp.dtype(dtype), remat=args.remat)
        row = {"benchmark": "gpu_memory", **where, **planned(model, mode), "jax": jax.__version__}
        print(row, flush=True)
        if args.output:
            rows = [json.loads(line) for line in args.output.read_text().splitlines()] if args.output.exists() else []
            others = [other for other in rows if any(other[name] != value for name, value in where.items())]
            args.output.write_text("".join(f"{json.dumps(row)}\n" for row in [*others, row]))


def planned(model: M3SR, mode: str) -> dict[str, Any]:
    """XLA's memory analysis of the compiled program, in MiB."""
    mesh = mesh_of(DEVICE)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    optimizer = make_optimizer(OptimConfig(), num_steps=1000)
    state = create_train_state(optimizer, init_params(M3SR(), jax.random.key(0)))
    batch = {name: jax.ShapeDtypeStruct((*MODES[mode], size), jnp.float32) for name, size in (("rgb", 3), ("cube", 31))}
    state, batch = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=whole), (state, batch)
    )
    start = time.perf_counter()
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        if mode == "forward":
            forward = jax.jit(lambda params, rgb: model.apply({"params": params}, rgb))
            traced = forward.trace(state.params, batch["rgb"])
        else:
            traced = jit_train_step(model, optimizer).trace(state, batch)
        memory = traced.lower(lowering_platforms=("cuda",)).compile().memory_analysis()
    sizes = {name: getattr(memory, f"{name}_size_in_bytes") for name in ("temp", "argument", "output", "alias")}
    return {f"{name}_mib": round(size / 2**20, 1) for name, size in sizes.items()} | {
        "compile_s": round(time.perf_counter() - start)
    }


if __name__ == "__main__":
    main()
