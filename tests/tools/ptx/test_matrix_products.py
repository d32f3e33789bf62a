"""XLA's own matrix products, compiled for a GPU and executed, have the precision that the model asks for."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("jax_plugins.xla_cuda13", reason="compiles for a GPU: make gpu-execute")

from m3sr_jax.models.precision import jax_precision
from tools.ptx.compiler import compile_launch
from tools.ptx.execute import execute

ROWS, DEPTH, WIDTH = 2048, 31, 62  # with fewer rows XLA would cut the sum over DEPTH into launches of their own
# Type of the tensor cores' operands, and the bounds of the largest difference to float64 over the largest value.
PRODUCTS = {"float32": (set(), 0, 5e-7), "tf32": ({"tf32"}, 1e-4, 1e-3)}


@pytest.mark.parametrize("gpu", ["NVIDIA H200", "NVIDIA A100", "NVIDIA GeForce RTX 4090"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_as_exact_as_its_precision_says(name, gpu):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((ROWS, DEPTH), np.float32), rng.standard_normal((DEPTH, WIDTH), np.float32)
    exact = left.astype(np.float64) @ right.astype(np.float64)

    def product(x, weights):
        return jnp.matmul(x, weights, precision=jax_precision(name))

    result = jax.ShapeDtypeStruct(exact.shape, jnp.float32)
    launch = compile_launch(product, "gemm_fusion", [left, right], [result], {}, gpu)
    [got], report = execute(launch, [left, right])
    operands, least, most = PRODUCTS[name]
    assert set(re.findall(r"mma\.\S*\.f32\.(\w+)\.\w+\.f32", launch.ptx)) == operands
    assert not report.faults, report
    assert least <= np.abs(got - exact).max() / np.abs(exact).max() <= most
