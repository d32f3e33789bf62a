"""Every implementation of layer norm, and of group norm with SiLU, against its definition in float64."""

import functools

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
import pytest

from .comparison import assert_close, draw

OPS = {
    "layer_norm": m3sr_kernels.layer_norm,
    "group_norm_silu": functools.partial(m3sr_kernels.group_norm_silu, num_groups=3),
}
SIZES = {
    "layer_norm": [(2, 5, 7, 21), (4, 4, 16), (1, 18, 9, 124)],
    "group_norm_silu": [(2, 5, 7, 21), (1, 1, 9, 18), (1, 24, 41, 33)],
}
CASES = [(op, sizes) for op in OPS for sizes in SIZES[op]]


def arguments(op, sizes, dtype=np.float64):
    """A mean of several deviations would ruin a variance computed as E[x²] − E[x]²."""
    shortcut = {"shortcut": sizes} if op == "group_norm_silu" else {}
    arrays = draw({"x": sizes, "scale": sizes[-1:], "bias": sizes[-1:]} | shortcut, dtype)
    return arrays | {"x": arrays["x"] + 5}


def value_and_gradient(op, arrays, implementation):
    def objective(arrays):
        y = OPS[op](**arrays, implementation=implementation)
        return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.grad(objective, has_aux=True))(arrays)


@pytest.mark.parametrize("implementation", ["xla", "native"])
@pytest.mark.parametrize(("op", "sizes"), CASES)
def test_value_and_gradient_equal_the_definition(op, sizes, implementation):
    arrays = arguments(op, sizes, np.float32)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(np.asarray(array), jnp.float64), arrays)
        expected = value_and_gradient(op, wide, "reference")
    assert_close(value_and_gradient(op, arrays, implementation), expected, 5e-6)


@pytest.mark.parametrize("implementation", [None, "xla", "native"])
@pytest.mark.parametrize("op", OPS)
def test_bfloat16_stays_bfloat16(op, implementation):
    narrow = arguments(op, SIZES[op][0], jnp.bfloat16)
    gradients, y = value_and_gradient(op, narrow, implementation)
    assert {y.dtype, *(leaf.dtype for leaf in gradients.values())} == {jnp.dtype(jnp.bfloat16)}
    expected = OPS[op](**jax.tree.map(lambda array: array.astype(jnp.float32), narrow))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(
    ("op", "sizes", "message"),
    [
        ("layer_norm", (3, 5, 21), "16 channels or pixels"),
        ("layer_norm", (4, 5, 15), "16 channels or pixels"),
        ("group_norm_silu", (1, 5, 7, 12), "16 channels"),
    ],
)
def test_fewer_channels_or_pixels_than_a_vector_are_refused(op, sizes, message):
    arrays = arguments(op, sizes, np.float32)
    with pytest.raises(NotImplementedError, match=message):
        OPS[op](**arrays, implementation="native")
    assert OPS[op](**arrays).shape == sizes


def test_groups_that_cannot_share_the_channels_are_refused():
    arrays = arguments("group_norm_silu", (2, 5, 7, 21), np.float32)
    with pytest.raises(ValueError, match="4 groups cannot share 21 channels"):
        m3sr_kernels.group_norm_silu(**arrays, num_groups=4)
