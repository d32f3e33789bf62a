"""The compiled kernels on a GPU equal XLA at the model's shapes, forward and gradient, and repeat their bits."""

import importlib
import zlib

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
import pytest
from m3sr_kernels.gpu_call import local_gpus_run

# Without a GPU the same kernels are interpreted (test_implementations.py) and lowered (test_gpu_lowering.py).
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        jax.default_backend() != "gpu", reason="needs a GPU that JAX can use: set JAX_PLATFORMS=cuda,cpu"
    ),
]

# Largest difference over the largest value, at the ops' default precision, float32: 2ˣ of the GPU's special-function
# unit is good to 2e-7, and sums over a million pixels in another order cost more.
TOLERANCE = 2e-5
OPS = ("s6_scan", "mamba_token_mix", "ss2d_scan", "ssd_scan")


def cases():
    for op in OPS:
        for name, shape in importlib.import_module(f"m3sr_kernels.{op}.shapes").SHAPES.items():
            if name.startswith("training") or "16 groups" in name:
                yield pytest.param(op, shape, id=f"{op} {name}")


def draw(sizes):
    """Normal arrays of these sizes; rates and step sizes are those of a trained model."""

    def array(path, size):
        name = jax.tree_util.keystr(path)
        values = jax.random.normal(jax.random.key(zlib.crc32(name.encode())), size, jnp.float32)
        if name == "['a']":
            return -jnp.exp(0.3 * values)
        return values if size[0] > 1000 or len(size) == 1 else values / np.sqrt(size[0])

    return jax.tree_util.tree_map_with_path(array, sizes, is_leaf=lambda size: isinstance(size, tuple))


def compiled(op, implementation, arguments):
    """A function of the arguments: a scalar and its gradient."""

    def objective(arguments):
        return jnp.mean(jnp.sin(getattr(m3sr_kernels, op)(**arguments, implementation=implementation)))

    return jax.jit(jax.value_and_grad(objective)).lower(arguments).compile()


def assert_equal_xla(op, got, arguments):
    expected = compiled(op, "xla", arguments)(arguments)
    for mine, reference in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert jnp.max(jnp.abs(mine - reference)) < TOLERANCE * jnp.max(jnp.abs(reference))


@pytest.mark.parametrize(("op", "shape"), list(cases()))
def test_kernels_equal_xla_and_repeat_themselves(op, shape):
    arguments = draw(shape.arguments)
    kernels = compiled(op, "pallas_triton", arguments)
    got = kernels(arguments)
    assert_equal_xla(op, got, arguments)
    for mine, again in zip(jax.tree.leaves(got), jax.tree.leaves(kernels(arguments)), strict=True):
        np.testing.assert_array_equal(mine, again)


@pytest.mark.skipif(not local_gpus_run("pallas_mosaic"), reason="Mosaic GPU needs compute capability 9.0")
@pytest.mark.parametrize(("op", "case"), [("s6_scan", "training, full"), ("ss2d_scan", "training, spatial, full")])
def test_mosaic_equals_xla(op, case):
    arguments = draw(importlib.import_module(f"m3sr_kernels.{op}.shapes").SHAPES[case].arguments)
    assert_equal_xla(op, compiled(op, "pallas_mosaic", arguments)(arguments), arguments)


def test_none_takes_the_kernel():
    shape = importlib.import_module("m3sr_kernels.s6_scan.shapes").Shape(64, 4, 62)
    text = jax.jit(lambda arguments: m3sr_kernels.s6_scan(**arguments)).lower(draw(shape.arguments)).as_text()
    assert "triton" in text
