"""The four-directional scan: its definition, and every other implementation against it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import ss2d_scan
from m3sr_kernels.ss2d_scan.api import IMPLEMENTATIONS
from m3sr_kernels.ss2d_scan.by_direction import to_image, to_sequence
from m3sr_kernels.ssd_scan.columns import MAX_CHUNKS, chunk_length

# float64 throughout: what remains is the order of the sums.
TOLERANCE = 1e-12


def draw(B, H, W, R, P, N=8, *, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (B, H, W, R * P),
        "dt": (B, H, W, 4, R),
        "a": (4, R),
        "b": (B, H, W, 4, N),
        "c": (B, H, W, 4, N),
        "d": (4, R, P),
    }
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["a"] = -np.exp(0.3 * arrays["a"])
    arrays["dt_bias"] = 0.5 * rng.standard_normal((4, R)) - 1
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def relative(got, expected):
    return jax.tree.map(lambda g, e: float(jnp.max(jnp.abs(g - e)) / jnp.max(jnp.abs(e))), got, expected)


def test_directions_visit_pixels_as_the_index_arithmetic_says():
    H, W = 5, 7
    pixels = jnp.arange(H * W).reshape(1, H, W, 1)
    t = np.arange(H * W)
    down = (t % H) * W + t // H
    for k, order in enumerate([t, down, t[::-1], down[::-1]]):
        sequence = to_sequence(pixels, k)
        np.testing.assert_array_equal(sequence[0, :, 0], order)
        np.testing.assert_array_equal(to_image(sequence, k, H, W), pixels)


# A square; wide enough to be padded to a square; too long for that; fewer pixels than a chunk.
@pytest.mark.parametrize("size", [(16, 16), (19, 21), (11, 40), (3, 5)])
def test_xla_equals_the_definition_in_value_and_gradient(size):
    with jax.enable_x64(True):
        inputs = draw(2, *size, 2, 3)

        def run(implementation):
            objective = lambda inputs: jnp.sum(jnp.sin(ss2d_scan(**inputs, implementation=implementation)))  # noqa: E731
            return jax.jit(jax.value_and_grad(objective))(inputs)

        errors = relative(run("xla"), run("reference"))
    assert max(jax.tree.leaves(errors)) < TOLERANCE, errors


def test_gradient_is_the_slope_of_the_value():
    with jax.enable_x64(True):
        inputs = draw(1, 4, 6, 1, 2, 3)
        direction = draw(1, 4, 6, 1, 2, 3, seed=1)
        objective = jax.jit(lambda inputs: jnp.sum(jnp.sin(ss2d_scan(**inputs, implementation="xla"))))
        moved = lambda step: jax.tree.map(lambda x, v: x + step * v, inputs, direction)  # noqa: E731
        slope = (objective(moved(1e-6)) - objective(moved(-1e-6))) / 2e-6
        gradient = jax.grad(objective)(inputs)
        expected = sum(jnp.vdot(gradient[name], direction[name]) for name in inputs)
    np.testing.assert_allclose(slope, expected, rtol=1e-7)


def test_long_columns_take_longer_chunks_and_stay_exact():
    height = 16 * MAX_CHUNKS + 1
    assert chunk_length(height) == 32
    with jax.enable_x64(True):
        inputs = draw(1, height, 2, 1, 2, 2)
        got, expected = (ss2d_scan(**inputs, implementation=name) for name in ("xla", "reference"))
        assert relative(got, expected) < TOLERANCE


def test_a_photo_does_not_drift():
    """482×512 pixels in float32 against float64, with decays so slow that a state lives for thousands of pixels."""
    inputs = draw(1, 482, 512, 1, 2, 2, dtype=np.float32)
    inputs |= {"dt": 0.1 * inputs["dt"], "dt_bias": inputs["dt_bias"] - 7}
    got = np.asarray(jax.jit(lambda inputs: ss2d_scan(**inputs, implementation="xla"))(inputs))
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(np.asarray(value), jnp.float64) for name, value in inputs.items()}
        expected = np.asarray(jax.jit(lambda inputs: ss2d_scan(**inputs, implementation="reference"))(wide))
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


# The kernels have the same test in test_ssd_pallas_triton.py and test_pallas_mosaic.py.
@pytest.mark.parametrize("implementation", [name for name in IMPLEMENTATIONS if not name.startswith("pallas")])
@pytest.mark.parametrize("shift", [-200.0, 60.0, 5000.0])
def test_extreme_steps_stay_finite(implementation, shift):
    """Δ from an underflow to decays that underflow, and both side by side in one sequence."""
    inputs = draw(1, 8, 17, 2, 2, 2, dtype=np.float32)
    inputs["dt"] = inputs["dt"].at[:, ::2, 1::3].add(shift)
    objective = lambda inputs: jnp.sum(ss2d_scan(**inputs, implementation=implementation))  # noqa: E731
    value, gradients = jax.jit(jax.value_and_grad(objective))(inputs)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_half_precision_input_keeps_wide_sums():
    inputs = draw(1, 8, 8, 2, 4, dtype=np.float32)
    narrow = {name: value.astype(jnp.bfloat16) for name, value in inputs.items()}
    got = ss2d_scan(**narrow, implementation="xla")
    expected = ss2d_scan(**{name: value.astype(jnp.float32) for name, value in narrow.items()}, implementation="xla")
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, expected.astype(jnp.bfloat16))


def test_vmap_maps_images():
    inputs = draw(3, 8, 9, 1, 2, 2, dtype=np.float32)
    whole = ss2d_scan(**inputs)
    axes = {name: 0 if name in ("x", "dt", "b", "c") else None for name in inputs}
    one = lambda inputs: ss2d_scan(**{n: v[None] if axes[n] == 0 else v for n, v in inputs.items()})[0]  # noqa: E731
    np.testing.assert_allclose(jax.vmap(one, in_axes=(axes,))(inputs), whole, rtol=1e-5, atol=1e-5)
