"""Kernels at shapes at random: values against float64, gradients against slopes of the values in float64."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import definitions
from .frames import Runtime
from .kernels import OPS, address, buffers, sizes

CASES = int(os.environ.get("M3SR_NATIVE_FUZZ", "60"))
FIGURES = os.environ.get("M3SR_NATIVE_FUZZ_OUTPUT")  # a file that gets a row an op
TOLERANCE = 2e-5  # float32 against float64, relative to the largest number
SLOPE_TOLERANCE = 6e-5  # of a slope along a random direction, relative to the length of each argument's gradient
STEP = 1e-5


def call(name, states, arguments, letters, threads, rng):
    handler, kernel = address(name, states)
    results = [array * np.nan for array in buffers(kernel.signature.results, letters, rng)]
    assert Runtime(threads, late=rng.random() < 0.8).call(handler, arguments, results) is None
    return results


def errors(op, seed, states, threads):
    """The largest error of the values and the error of a slope, relative as the tolerances are."""
    definition, rng = getattr(definitions, op), np.random.default_rng(seed)
    letters = sizes(rng, states)[op]
    _, forward = address(f"{op} forward", states)
    arguments = buffers(forward.signature.arguments, letters, rng)
    if op == "mix":
        arguments = [array * 0.3 if array.ndim == 2 else array for array in arguments]
    wide = [array.astype(np.float64) for array in arguments]
    values = call(f"{op} forward", states, arguments, letters, threads, rng)
    pairs = list(zip(values, definition(*wide), strict=True))
    value_error = max(np.abs(found - expected).max() / np.abs(expected).max() for found, expected in pairs)

    cotangents = [rng.standard_normal(value.shape).astype(np.float32) for value in values]
    gradients = backward(op, states, arguments, cotangents, letters, threads, rng)
    # One slope along a direction in which every argument's gradient has about the same part.
    lengths = [max(np.linalg.norm(gradient.astype(np.float64)), 1) for gradient in gradients]
    direction = [
        rng.standard_normal(gradient.shape) / length for gradient, length in zip(gradients, lengths, strict=True)
    ]

    def objective(step):
        moved = [array + step * along for array, along in zip(wide, direction, strict=True)]
        return sum(np.vdot(c, y) for c, y in zip(cotangents, definition(*moved), strict=True))

    slope = (objective(STEP) - objective(-STEP)) / (2 * STEP)
    found = sum(np.vdot(gradient, along) for gradient, along in zip(gradients, direction, strict=True))
    return value_error, np.abs(found - slope)


@pytest.mark.parametrize("op", OPS)
def test_values_and_gradients_at_random_shapes(op):
    """60 shapes an op; `make fuzz-native` takes 2,000."""
    worst, start, runs = np.zeros(2), time.process_time(), []

    @settings(max_examples=CASES, deadline=None, derandomize=CASES <= 60, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32 - 1), st.sampled_from([8, 5, 16]), st.integers(1, 6))
    def check(seed, states, threads):
        found = np.array(errors(op, seed, states, threads))
        runs.append(1)
        assert (found <= [TOLERANCE, SLOPE_TOLERANCE]).all(), found
        worst[:] = np.maximum(worst, found)

    check()
    if FIGURES:
        row = {"kernels": op, "cases": len(runs), "failures": []}
        row |= {"worst_value_error": worst[0], "worst_slope_error": worst[1], "cpu_s": time.process_time() - start}
        with Path(FIGURES).open("a") as file:
            file.write(json.dumps(row) + "\n")


def backward(op, states, arguments, cotangents, letters, threads, rng):
    """The gradient of each argument."""
    if op == "groupnorm":  # the gradient of the shortcut is the cotangent
        return [*call("groupnorm backward", states, [*arguments[:3], *cotangents], letters, threads, rng), *cotangents]
    if op != "mix":
        gradients = call(f"{op} backward", states, [*arguments, *cotangents], letters, threads, rng)
        if op in ("s6", "s6gated"):
            gradients[4] = gradients[4] * np.log(2)  # the kernel gives that of the rates of e
        return gradients
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
