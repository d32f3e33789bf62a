"""Every implementation of group norm with SiLU against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import group_norm_silu

from ..comparison import assert_close, draw

SIZES = [(2, 5, 7, 21), (1, 1, 9, 18), (1, 40, 41, 33)]


def arguments(sizes, dtype=np.float64):
    """A mean of several deviations would ruin a variance computed as E[x²] − E[x]²."""
    arrays = draw({"x": sizes, "scale": sizes[-1:], "bias": sizes[-1:], "shortcut": sizes}, dtype)
    return arrays | {"x": arrays["x"] + 5}


def value_and_gradient(arrays, implementation):
    def objective(arrays):
        y = group_norm_silu(**arrays, num_groups=3, implementation=implementation)
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
    expected = group_norm_silu(**jax.tree.map(lambda array: array.astype(jnp.float32), narrow), num_groups=3)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03 * float(jnp.abs(expected).max()))


def test_groups_that_cannot_share_the_channels_are_refused():
    with pytest.raises(ValueError, match="4 groups cannot share 21 channels"):
        group_norm_silu(**arguments(SIZES[0], np.float32), num_groups=4)


def test_fewer_channels_than_a_vector_are_refused():
    arrays = arguments((1, 5, 7, 12), np.float32)
    with pytest.raises(NotImplementedError, match="16 channels"):
        group_norm_silu(**arrays, num_groups=3, implementation="native")
    assert group_norm_silu(**arrays, num_groups=3).shape == (1, 5, 7, 12)
