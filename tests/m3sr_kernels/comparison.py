"""What the tests of all ops share: cases and their arguments, value and gradient, lowering for CUDA."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
from m3sr_kernels.checks import accumulation_dtype
from quick_compilation import QUICK

# Compiles long programs for few pixels in less time.
compile_fast = functools.partial(jax.jit, compiler_options=QUICK)


class Case(NamedTuple):
    """Arguments of an op that every implementation must take.

    Attributes:
      sizes: the shape of each argument, by name; what is missing is not passed.
      hard_steps: Δ of 1e-13 and of 60 within one sequence.
    """

    sizes: dict[str, Any]
    hard_steps: bool = False

    def draw(self, dtype=np.float64) -> dict[str, Any]:
        arrays = draw(self.sizes, dtype)
        if self.hard_steps:
            arrays["dt"] = arrays["dt"].at[:, 0].set(-30.0).at[:, 1].set(60.0)
        return arrays


def draw(sizes, dtype=np.float64, seed=0):
    """Normal arrays of these sizes, which float32 represents; rates and parameters are those of a trained model."""
    rng = np.random.default_rng(seed)
    arrays = jax.tree.map(rng.standard_normal, sizes, is_leaf=lambda size: isinstance(size, tuple))
    scale = {"a": lambda a: -np.exp(0.3 * a), "dt_bias": lambda bias: 0.5 * bias - 1}
    arrays |= {name: scale[name](arrays[name]) for name in scale if name in arrays}
    arrays |= {"params": jax.tree.map(lambda array: 0.5 * array, arrays["params"])} if "params" in arrays else {}
    return jax.tree.map(lambda array: jnp.asarray(np.float32(array), dtype), arrays)


def value_and_gradient(op, implementation, *, interpret=True):
    """A function of an op's arguments, not compiled: (the gradients of a weighted sum of its results, the results)."""
    options = {"return_final_state": True} if op == "ssd_scan" else {}

    def objective(inputs):
        results = getattr(m3sr_kernels, op)(**inputs, implementation=implementation, interpret=interpret, **options)
        total = jnp.zeros(())
        for result in jax.tree.leaves(results):
            wide = accumulation_dtype(result)
            weights = jnp.cos(jnp.arange(result.size, dtype=jnp.float32)).reshape(result.shape).astype(jnp.bfloat16)
            total += jnp.sum(result.astype(wide) * weights.astype(wide))
        return total, results

    return jax.grad(objective, has_aux=True)


def assert_close(got, expected, tolerance):
    """Largest difference over the largest expected value, array by array."""
    (pairs, structure), leaves = jax.tree_util.tree_flatten_with_path(expected), jax.tree.leaves(got)
    assert jax.tree.structure(got) == structure
    for (path, value), mine in zip(pairs, leaves, strict=True):
        value, mine = (np.asarray(array, np.float64) for array in (value, mine))
        error, scale = np.abs(mine - value).max(), np.abs(value).max()
        assert error <= tolerance * scale, (jax.tree_util.keystr(path), error / scale)


def specs(shape, dtype=jnp.float32):
    """The arguments of a shape without values; parameters, which have no batch axis, are float32."""

    def array(size):
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape.batch else jnp.float32)

    return jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))


def lower_for_cuda(function, *arguments) -> str:
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
