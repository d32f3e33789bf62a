"""Predicts the time of M3SR's matrix products and convolutions on an H200, from their shapes alone.

Command:  python tools/gpu_products.py

Each takes the longest of its operations at the peak rate of its precision, its bytes, read and written once, and a
launch. Scans, norms and activations are not counted. Traces the model and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_jax.config import OptimConfig
from m3sr_jax.models import M3SR, parameter_shapes
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

MODES = {"forward": (1, 482, 512), "training step": (32, 128, 128)}
BANDWIDTH, LAUNCH = 4.3e12, 2.5e-6  # bytes/s of a copy; s
# Operations/s of matrix products and of convolutions, from the data sheet: float32 67e12, TF32 495e12, bfloat16 989e12.
RATES = {"float32": (67e12, 67e12), "six bfloat16 passes": (989e12 / 6, 67e12), "tf32": (495e12, 495e12)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON-lines file to append to")
    args = parser.parse_args()
    for mode in MODES:
        found = list(products(trace(mode)))
        for precision, rates in RATES.items():
            row = {"benchmark": "gpu_products", "device": "NVIDIA H200", "mode": mode, "products": precision}
            for name, rate in zip(("dot_general", "conv_general_dilated"), rates, strict=True):
                row |= predicted(name.partition("_")[0], [cost[1:] for cost in found if cost[0] == name], rate)
            row["jax"] = jax.__version__
            print(row, flush=True)
            if args.output:
                with args.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def predicted(kind: str, costs: list[tuple[int, int]], rate: float) -> dict[str, Any]:
    """Their number, operations, bytes and time."""
    seconds = sum(max(flops / rate, size / BANDWIDTH, LAUNCH) for flops, size in costs)
    flops, sizes = map(sum, zip(*costs, strict=True))
    numbers = {"count": len(costs), "gflop": flops / 1e9, "gbyte": sizes / 1e9, "ms": seconds * 1e3}
    return {f"{kind}_{name}": round(number, 3) for name, number in numbers.items()}


def trace(mode: str) -> Any:
    """The program, with scans by their definition: it has no products of its own and is quick to trace."""
    model, shape = M3SR(implementation="reference"), MODES[mode]
    params = parameter_shapes(model)
    rgb, cube = (jax.ShapeDtypeStruct((*shape, bands), jnp.float32) for bands in (3, model.num_bands))
    if mode == "forward":
        return jax.make_jaxpr(lambda params, rgb: model.apply({"params": params}, rgb))(params, rgb)
    optimizer = make_optimizer(OptimConfig(), num_steps=1000)
    state = jax.eval_shape(lambda params: create_train_state(optimizer, params), params)
    return jax.make_jaxpr(jit_train_step(model, optimizer))(state, {"rgb": rgb, "cube": cube})


def products(jaxpr: Any) -> Iterator[tuple[str, int, int]]:
    """Name, operations and bytes of each matrix product and convolution."""
    for equation in jaxpr.eqns:
        name, sizes = equation.primitive.name, [math.prod(v.aval.shape) for v in (*equation.invars, *equation.outvars)]
        if name in ("dot_general", "conv_general_dilated"):
            yield name, 2 * sizes[2] * terms(equation), sum(4 * size for size in sizes)
        repeats = equation.params["length"] if name == "scan" else 1
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")):
            if hasattr(inner, "eqns"):
                yield from list(products(inner)) * repeats


def terms(equation: Any) -> int:
    """Products in the sum of one result."""
    left, right = (variable.aval.shape for variable in equation.invars)
    numbers = equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        return math.prod(left[axis] for axis in numbers[0][0])
    return math.prod(right) // right[numbers.rhs_spec[0]]


if __name__ == "__main__":
    main()
