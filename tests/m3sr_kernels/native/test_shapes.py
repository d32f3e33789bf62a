"""Kernels at shapes at random: values against float64, gradients against slopes of the values in float64."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import definitions
from .frames import Runtime
from .kernels import address, buffers, sizes

CASES = int(os.environ.get("M3SR_NATIVE_FUZZ", "60"))
TOLERANCE = 2e-5  # float32 against float64, relative to the largest number
STEP = 1e-5


def call(name, states, arguments, letters, threads, rng):
    handler, kernel = address(name, states)
    results = [array * np.nan for array in buffers(kernel.signature.results, letters, rng)]
    assert Runtime(threads).call(handler, arguments, results) is None
    return results


@pytest.mark.parametrize("op", ["ss2d", "ssd", "mix", "conv"])
def test_values_and_gradients_at_random_shapes(op):
    """60 shapes an op; `make fuzz-native` takes 2,000."""
    definition = getattr(definitions, op)

    @settings(max_examples=CASES, deadline=None, derandomize=CASES <= 60, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32 - 1), st.sampled_from([8, 5, 16]), st.integers(1, 6))
    def check(seed, states, threads):
        rng = np.random.default_rng(seed)
        letters = sizes(rng, states)[op]
        _, forward = address(f"{op} forward", states)
        arguments = buffers(forward.signature.arguments, letters, rng)
        if op == "mix":
            arguments = [array * 0.3 if array.ndim == 2 else array for array in arguments]
        wide = [array.astype(np.float64) for array in arguments]
        values = call(f"{op} forward", states, arguments, letters, threads, rng)
        for found, expected in zip(values, definition(*wide), strict=True):
            assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()

        cotangents = [rng.standard_normal(value.shape).astype(np.float32) for value in values]
        gradients = backward(op, states, arguments, cotangents, letters, threads, rng)
        for number, gradient in enumerate(gradients):
            direction = rng.standard_normal(gradient.shape)

            def slope(step, number=number, direction=direction):
                moved = list(wide)
                moved[number] = moved[number] + step * direction
                return sum(np.vdot(c, y) for c, y in zip(cotangents, definition(*moved), strict=True))

            expected = (slope(STEP) - slope(-STEP)) / (2 * STEP)
            scale = np.linalg.norm(gradient.astype(np.float64)) + 1e-3 * np.abs(expected) + 1e-6
            assert np.abs(np.vdot(gradient, direction) - expected) <= 2e-4 * scale, (number, letters)

    check()


def backward(op, states, arguments, cotangents, letters, threads, rng):
    """The gradient of each argument."""
    if op != "mix":
        return call(f"{op} backward", states, [*arguments, *cotangents], letters, threads, rng)
    _, w_in, _, _, w_x, *_, w_out = arguments
    C, O = letters["C"], letters["O"]
    transposed = [w_out.T[:C], w_x.T, np.pad(w_in.T, ((0, 0), (0, O - C)))]
    contiguous = [np.ascontiguousarray(array) for array in transposed]
    dtokens, sums = call("mix backward", states, [*arguments, *contiguous, *cotangents], letters, threads, rng)
    gradients, begin = [dtokens], 0
    for array in (np.zeros((O, w_in.shape[1])), *arguments[2:]):
        gradients.append(sums[begin : begin + array.size].reshape(array.shape))
        begin += array.size
    assert begin == sums.size
    gradients[1] = gradients[1][:C]
    gradients[-1] = gradients[-1] * (np.arange(O) < C)
    gradients[7] = gradients[7] * np.log(2)  # the kernel gives that of the rates of e
    return gradients
