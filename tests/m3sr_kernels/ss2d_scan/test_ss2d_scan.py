"""What is special about the scan over an image: its orders, its lengths, and how it rounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import ss2d_scan
from m3sr_kernels.ss2d_scan.orders import to_image, to_sequence
from m3sr_kernels.ss2d_scan.shapes import Shape
from m3sr_kernels.ssd_scan.xla_columns import MAX_CHUNKS, chunk_length

from ..comparison import assert_close, compile_fast, draw
from .cases import CASES, TOLERANCE


def test_directions_visit_pixels_as_the_index_arithmetic_says():
    H, W = 5, 7
    pixels = jnp.arange(H * W).reshape(1, H, W, 1)
    t = np.arange(H * W)
    down = (t % H) * W + t // H
    for k, order in enumerate([t, down, t[::-1], down[::-1]]):
        sequence = to_sequence(pixels, k)
        np.testing.assert_array_equal(sequence[0, :, 0], order)
        np.testing.assert_array_equal(to_image(sequence, k, H, W), pixels)


def test_gradient_is_the_slope_of_the_value():
    sizes = Shape(1, 4, 6, 1, 2, 3).arguments
    with jax.enable_x64(True):
        inputs, direction = draw(sizes), draw(sizes, seed=1)
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
        inputs = draw(Shape(1, height, 2, 1, 2, 2).arguments)
        got, expected = (ss2d_scan(**inputs, implementation=name) for name in ("xla", "reference"))
        assert_close(got, expected, TOLERANCE)


def test_a_photo_does_not_drift():
    """482×512 pixels in float32 against float64, with decays so slow that a state lives for thousands of pixels."""
    inputs = draw(Shape(1, 482, 512, 1, 2, 2).arguments, np.float32)
    inputs |= {"dt": 0.1 * inputs["dt"], "dt_bias": inputs["dt_bias"] - 7}
    got = np.asarray(jax.jit(lambda inputs: ss2d_scan(**inputs, implementation="xla"))(inputs))
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(np.asarray(value), jnp.float64) for name, value in inputs.items()}
        expected = np.asarray(jax.jit(lambda inputs: ss2d_scan(**inputs, implementation="reference"))(wide))
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("implementation", ["xla", "pallas_triton"])
def test_half_precision_gives_the_bits_of_float32_rounded_once(implementation, small_tiles):
    narrow = CASES["odd"].draw(jnp.bfloat16)
    run = compile_fast(functools.partial(ss2d_scan, implementation=implementation, interpret=True))
    got, expected = run(**narrow), run(**{name: value.astype(jnp.float32) for name, value in narrow.items()})
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, expected.astype(jnp.bfloat16))
