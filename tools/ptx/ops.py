"""An op's compiled kernels against its definition in float64."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np

from tools.ptx.pallas import Execution, executed_launches


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What the kernels of an op gave.

    Attributes:
      errors: the largest difference to float64 over the largest value, by "y", or "d" and an argument.
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
    op: str,
    shape: Any,
    dtype: str,
    implementation: str,
    *,
    without: tuple[str, ...] = (),
    hard_steps: bool = False,
    **settings: Any,
) -> Comparison:
    """Runs an op and its gradient on random arrays as compiled PTX.

    Args:
      op: name of the op.
      shape: of the op's class `Shape`.
      dtype: of the arguments; parameters are float32, or float64 if the arguments are.
      implementation: "pallas_triton" or "pallas_mosaic"; another one has no launches and just gives its errors.
      without: arguments to leave out.
      hard_steps: Δ of 1e-13 and of 60 within a sequence.
      **settings: of `executed_launches`.
    """
    arrays, expected = _problem(op, shape, dtype, without, hard_steps)
    with jax.enable_x64(dtype == "float64"), executed_launches(**settings) as launches:
        got = jax.device_get(jax.jit(function_of(op, implementation))(jax.tree.map(jnp.asarray, arrays)))
    return Comparison({name: _error(got[name], expected[name]) for name in got}, launches)


@functools.cache
def _problem(
    op: str, shape: Any, dtype: str, without: tuple[str, ...], hard_steps: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Arguments, and value and gradient in float64."""
    sizes = {name: size for name, size in shape.arguments.items() if name not in without}
    arrays = _draw(sizes, shape.batch, jnp.dtype(dtype), hard_steps)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(array.astype(np.float64)), arrays)
        return arrays, jax.device_get(jax.jit(function_of(op, "reference"))(wide))


def _draw(sizes: dict[str, Any], batch: int, dtype: np.dtype, hard_steps: bool) -> dict[str, Any]:
    """Normal arrays that `dtype` represents; rates and parameters are those of a trained model."""
    rng = np.random.default_rng(0)
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


def function_of(op: str, implementation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function of the op's arguments: y and the gradient of Σ cos(i)·y_i, with weights that bfloat16 represents."""

    def run(arrays: dict[str, Any]) -> dict[str, Any]:
        y, back = jax.vjp(lambda arrays: getattr(m3sr_kernels, op)(**arrays, implementation=implementation), arrays)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(jnp.bfloat16)
        [gradients] = back(weights.astype(y.dtype))
        leaves = jax.tree_util.tree_leaves_with_path(gradients)
        return {"y": y} | {f"d{path[-1].key}": leaf for path, leaf in leaves}

    return run


def _error(got: np.ndarray, expected: np.ndarray) -> float:
    got = np.asarray(got, np.float64)
    if not np.isfinite(got).all():
        return math.inf
    return float(np.abs(got - expected).max() / (np.abs(expected).max() or 1))


def specs(shape: Any, dtype: str) -> dict[str, Any]:
    """The arguments of a shape without values; parameters, which have no batch axis, are float32."""

    def array(size: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape.batch and len(size) > 2 else jnp.float32)

    return jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))


def shapes_module(op: str) -> Any:
    """The op's `shapes.py`: its class `Shape`, and `SHAPES`, those of the model by name."""
    return importlib.import_module(f"m3sr_kernels.{op}.shapes")
