"""Every implementation of the depthwise convolution against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import depthwise_conv_silu

from ..comparison import assert_close, draw

SIZES = {"x": (2, 5, 7, 21), "kernel": (3, 3, 21)}


def value_and_gradient(arrays, implementation):
    def objective(arrays):
        y = depthwise_conv_silu(**arrays, implementation=implementation)
        return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.grad(objective, has_aux=True))(arrays)


@pytest.mark.parametrize(("implementation", "tolerance"), [("xla", 1e-13), ("native", 2e-6)])
@pytest.mark.parametrize("sizes", [(2, 5, 7, 21), (1, 1, 9, 16), (1, 18, 1, 33)])
def test_value_and_gradient_equal_the_definition(implementation, tolerance, sizes):
    sizes = {"x": sizes, "kernel": (3, 3, sizes[-1])}
    with jax.enable_x64(True):
        expected = value_and_gradient(draw(sizes), "reference")
    with jax.enable_x64(implementation == "xla"):
        dtype = np.float64 if implementation == "xla" else np.float32
        got = value_and_gradient(draw(sizes, dtype), implementation)
    assert_close(got, expected, tolerance)


@pytest.mark.parametrize("implementation", [None, "xla", "native"])
def test_bfloat16_stays_bfloat16(implementation):
    narrow = draw(SIZES, jnp.bfloat16)
    gradients, y = value_and_gradient(narrow, implementation)
    assert y.dtype == gradients["x"].dtype == gradients["kernel"].dtype == jnp.bfloat16
    expected = depthwise_conv_silu(**jax.tree.map(lambda array: array.astype(jnp.float32), narrow))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03 * float(jnp.abs(expected).max()))
