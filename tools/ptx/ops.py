"""An op's compiled kernels against its definition in float64, and their instructions at the model's shapes."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np

from tools.ptx.execute import Launch, execute_addresses
from tools.ptx.pallas import Execution, compiled_launches, executed_launches

DIRECTIONS = {"ss2d_scan": 4}
WITH_GRADIENT = ("pallas_triton",)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What the kernels of an op gave.

    Attributes:
      errors: the largest difference to float64 over the largest value, by "y" or the argument whose gradient it is.
      launches: what ran.
    """

    errors: dict[str, float]
    launches: list[Execution]

    @property
    def worst(self) -> float:
        return max(self.errors.values())

    @property
    def faults(self) -> list[str]:
        return [f"{run.launch.name}: {run.report}" for run in self.launches if run.report.faults]


def compare(
    op: str, sizes: dict[str, Any], dtype: Any, implementation: str, *, hard_steps: bool = False, **settings: Any
) -> Comparison:
    """Runs an op on random arrays as compiled PTX, with its gradient if it has kernels for that.

    Args:
      op: name of the op.
      sizes: the shape of each argument.
      dtype: of the arguments; parameters are float32, or float64 if the arguments are.
      implementation: "pallas_triton" or "pallas_mosaic".
      hard_steps: Δ of 1e-13 and of 60 within a sequence.
      **settings: of `executed_launches`.
    """
    arrays = _draw(sizes, jnp.dtype(dtype), hard_steps)
    expected = _definition(op, arrays)
    run = _value_and_gradient if implementation in WITH_GRADIENT else _value
    with jax.enable_x64(jnp.dtype(dtype) == jnp.float64), executed_launches(**settings) as launches:
        got = jax.device_get(jax.jit(run(op, implementation))(_as_jax(arrays)))
    return Comparison({name: _error(got[name], expected[name]) for name in got}, launches)


def _draw(sizes: dict[str, Any], dtype: np.dtype, hard_steps: bool) -> dict[str, Any]:
    """Normal arrays that `dtype` represents; rates and parameters are those of a trained model."""
    rng = np.random.default_rng(0)
    batch = next(size[0] for name, size in sizes.items() if name in ("x", "tokens"))
    parameters = np.float64 if dtype == np.float64 else np.float32

    def array(path: Any, size: tuple[int, ...]) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        value = rng.standard_normal(size)
        if name == "['a']":
            value = -np.exp(0.3 * value)
        elif "params" in name and len(size) == 2:
            value /= math.sqrt(size[0])
        elif name == "['dt']" and hard_steps:
            value[:, 0], value[:, 1] = -30, 60
        moves = "params" not in name and len(size) > 2 and size[0] == batch
        return value.astype(np.float32).astype(dtype if moves else parameters)

    return jax.tree_util.tree_map_with_path(array, sizes, is_leaf=lambda size: isinstance(size, tuple))


def _as_jax(arrays: dict[str, Any]) -> dict[str, Any]:
    return jax.tree.map(jnp.asarray, arrays)


def _value(op: str, implementation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {"y": getattr(m3sr_kernels, op)(**arrays, implementation=implementation)}


def _value_and_gradient(op: str, implementation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """y and the gradient of Σ cos(i)·y_i, with weights that bfloat16 represents."""

    def run(arrays: dict[str, Any]) -> dict[str, Any]:
        y, back = jax.vjp(lambda arrays: _value(op, implementation)(arrays)["y"], arrays)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(jnp.bfloat16)
        [gradients] = back(weights.astype(y.dtype))
        leaves = jax.tree_util.tree_leaves_with_path(gradients)
        return {"y": y} | {f"d{path[-1].key}": leaf for path, leaf in leaves}

    return run


def _definition(op: str, arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(array.astype(np.float64)), arrays)
        return jax.device_get(jax.jit(_value_and_gradient(op, "reference"))(wide))


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return math.inf
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def instructions(
    op: str, shape: Any, dtype: Any, implementation: str, *, gpu: str = "NVIDIA H200"
) -> Iterator[dict[str, Any]]:
    """Counts the warp instructions of an op's kernels at a shape, a row each.

    Four blocks of each launch run, for their addresses only. Numbers are sums over the launches of a kernel, a pixel
    (a sequence, for S6) and direction.
    """
    run = _value_and_gradient if implementation in WITH_GRADIENT else _value
    pixels = shape.batch * getattr(shape, "height", 1) * getattr(shape, "width", 1)
    if op == "ssd_scan":
        pixels *= shape.length
    by_name: dict[str, list[Launch]] = {}
    for launch in compiled_launches(run(op, implementation), specs(shape, dtype), gpu=gpu):
        by_name.setdefault(launch.name, []).append(launch)
    for name, launches in by_name.items():
        totals = _totals(launches)
        per_pixel = {key: round(value / pixels / DIRECTIONS.get(op, 1), 2) for key, value in totals.items()}
        first = launches[0]
        yield {
            "kernel": name,
            "launches": len(launches),
            "grid": list(first.grid),
            "threads": first.threads[0],
        } | per_pixel


def specs(shape: Any, dtype: Any) -> dict[str, Any]:
    """The arguments of a shape without values; parameters, which have no batch axis, are float32."""

    def array(size: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape.batch and len(size) > 2 else jnp.float32)

    return jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))


def _totals(launches: list[Launch]) -> dict[str, float]:
    """Warp instructions by kind, sectors and bytes of whole launches, from a sample of their blocks."""
    totals: dict[str, float] = {}
    for launch in launches:
        blocks = sorted({launch.blocks * eighth // 8 for eighth in (1, 3, 5, 7)})
        report = execute_addresses(launch, blocks)
        if report.faults:
            raise RuntimeError(f"{launch.name}: {report}")
        found = {
            "instructions": report.instructions,
            "loads": report.count("ld.global"),
            "stores": report.count("st.global"),
            "shared": report.count("ld.shared", "st.shared", "ldmatrix", "stmatrix"),
            "shuffles": report.count("shfl", "redux"),
            "barriers": report.count("bar", "barrier"),
            "special": report.count("ex2", "lg2", "rcp", "sqrt", "rsqrt", "div", "sin", "cos", "tanh"),
            "sectors": sum(t.sectors for (_, memory), t in report.traffic.items() if memory == "global"),
        }
        for key, value in found.items():
            totals[key] = totals.get(key, 0) + value * launch.blocks / len(blocks)
    return totals


def shapes_module(op: str) -> Any:
    """The op's `shapes.py`: its class `Shape`, and `SHAPES`, those of the model by name."""
    return importlib.import_module(f"m3sr_kernels.{op}.shapes")
