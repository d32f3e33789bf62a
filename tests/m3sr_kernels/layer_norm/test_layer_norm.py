"""Every implementation of layer norm against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import layer_norm

from ..comparison import assert_close, draw

SIZES = [(2, 5, 7, 21), (4, 4, 16), (1, 18, 9, 124)]


def arguments(sizes, dtype=np.float64):
    """A mean of several deviations would ruin a variance computed as E[x²] − E[x]²."""
    arrays = draw({"x": sizes, "scale": sizes[-1:], "bias": sizes[-1:]}, dtype)
    return arrays | {"x": arrays["x"] + 5}


def value_and_gradient(arrays, implementation):
    def objective(arrays):
        y = layer_norm(**arrays, implementation=implementation)
        return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.grad(objective, has_aux=True))(arrays)


@pytest.mark.parametrize("implementation", ["xla", "native"])
@pytest.mark.parametrize("sizes", SIZES)
def test_value_and_gradient_equal_the_definition(implementation, sizes):
    arrays = arguments(sizes, np.float32)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(np.asarray(array), jnp.float64), arrays)
        expected = value_and_gradient(wide, "reference")
    assert_close(value_and_gradient(arrays, implementation), expected, 5e-6)


@pytest.mark.parametrize("implementation", [None, "xla", "native"])
def test_bfloat16_stays_bfloat16(implementation):
    narrow = arguments(SIZES[0], jnp.bfloat16)
    gradients, y = value_and_gradient(narrow, implementation)
    assert {y.dtype, *(leaf.dtype for leaf in gradients.values())} == {jnp.dtype(jnp.bfloat16)}
    expected = layer_norm(**jax.tree.map(lambda array: array.astype(jnp.float32), narrow))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("sizes", [(3, 5, 21), (4, 5, 15)])
def test_fewer_channels_or_pixels_than_a_vector_are_refused(sizes):
    arrays = arguments(sizes, np.float32)
    with pytest.raises(NotImplementedError, match="16 channels or pixels"):
        layer_norm(**arrays, implementation="native")
    assert layer_norm(**arrays).shape == sizes
