"""The S6 scan beyond the release's numbers: lengths, memory, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import s6_scan
from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS
from m3sr_kernels.s6_scan.xla import MAX_PAIRWISE, MAX_UNROLLED


def draw(B, L, D, N=16, *, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (B, L, D),
        "dt": (B, L, D),
        "a": (D, N),
        "b": (B, L, N),
        "c": (B, L, N),
        "d": (D,),
        "z": (B, L, D),
        "dt_bias": (D,),
    }
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["a"] = -np.exp(0.3 * arrays["a"] + 0.5)
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def compare(inputs, implementation):
    """Value and gradient against the definition, in float64: what remains is the order of the sums."""

    def run(implementation):
        objective = lambda inputs: jnp.sum(  # noqa: E731
            jnp.sin(s6_scan(**inputs, implementation=implementation, interpret=True))
        )
        return jax.jit(jax.value_and_grad(objective))(inputs)

    (value, gradients), (expected_value, expected) = run(implementation), run("reference")
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    for name, gradient in expected.items():
        scale = max(1, np.abs(np.asarray(gradient)).max())
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-12 * scale, err_msg=name)


# One token; the model's four; both sides of the switch to a loop over time; more channels than one loop body takes, and
# a prime number.
@pytest.mark.parametrize(
    ("L", "D"), [(1, 3), (4, 5), (MAX_PAIRWISE, 2), (MAX_PAIRWISE + 1, 2), (2, 2 * MAX_UNROLLED), (3, 67)]
)
def test_xla_equals_the_definition_in_value_and_gradient(L, D):
    with jax.enable_x64(True):
        compare(draw(5, L, D), "xla")


# The model's four tokens with two blocks of channels and of sequences; a number of tokens that is no power of two,
# without skip, gate and bias; a long sequence in segments that it does not fill.
@pytest.mark.parametrize(
    ("shape", "absent"), [((9, 4, 67, 16), ()), ((3, 5, 3, 2), ("d", "z", "dt_bias")), ((2, 19, 3, 2), ())]
)
def test_triton_equals_the_definition_in_value_and_gradient(shape, absent):
    with jax.enable_x64(True):
        inputs = draw(*shape)
        compare({name: array for name, array in inputs.items() if name not in absent}, "pallas_triton")


def test_triton_keeps_wide_sums_of_half_precision_input():
    narrow = {name: array.astype(jnp.bfloat16) for name, array in draw(3, 4, 5, dtype=np.float32).items()}
    wide = {name: array.astype(jnp.float32) for name, array in narrow.items()}
    got = s6_scan(**narrow, implementation="pallas_triton", interpret=True)
    assert got.dtype == jnp.bfloat16
    expected = s6_scan(**wide, implementation="reference")
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)  # rounded once, at the store


def test_no_state_is_kept_in_memory():
    """One array of states is 16 times x. A plain gradient holds several of them; ours works in the space of two."""
    inputs = draw(4096, 4, 62, dtype=np.float32)
    states = 16 * inputs["x"].nbytes
    objective = lambda inputs: jnp.sum(s6_scan(**inputs, implementation="xla"))  # noqa: E731
    forward = jax.jit(lambda inputs: s6_scan(**inputs, implementation="xla")).lower(inputs).compile()
    gradient = jax.jit(jax.grad(objective)).lower(inputs).compile()
    assert forward.memory_analysis().temp_size_in_bytes < states / 2
    assert gradient.memory_analysis().temp_size_in_bytes < 2 * states


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_extreme_steps_stay_finite(implementation):
    inputs = draw(3, 5, 4, dtype=np.float32)
    objective = lambda inputs: jnp.sum(s6_scan(**inputs, implementation=implementation, interpret=True))  # noqa: E731
    run = jax.jit(jax.value_and_grad(objective))
    for shift in (-200.0, 60.0, 5000.0):
        value, gradients = run(inputs | {"dt": inputs["dt"].at[:, 1::2].add(shift)})
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_gate_skip_and_bias_are_optional():
    inputs = draw(2, 4, 3, dtype=np.float32)
    bare = {name: inputs[name] for name in ("x", "dt", "a", "b", "c")}
    zeros = {"d": jnp.zeros(3), "dt_bias": jnp.zeros(3)}
    np.testing.assert_allclose(s6_scan(**bare), s6_scan(**bare, **zeros), rtol=1e-6)
    gated = s6_scan(**bare, z=inputs["z"])
    np.testing.assert_allclose(gated, s6_scan(**bare) * jax.nn.silu(inputs["z"]), rtol=1e-6)
