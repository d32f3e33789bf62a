"""Handlers check every frame, answer for their version and pass on errors."""

import numpy as np
import pytest

from .frames import COUNT_THREADS, SCHEDULE, Runtime
from .kernels import address, buffers, sizes


def frame():
    rng = np.random.default_rng(0)
    handler, kernel = address("ss2d forward", 8)
    letters = sizes(rng, 8)["ss2d"] | {"B": 2, "R": 4}
    letters["I"] = letters["R"] * letters["P"]
    arrays = (buffers(shapes, letters, rng) for shapes in (kernel.signature.arguments, kernel.signature.results))
    return handler, *arrays


def test_a_right_frame_is_run():
    handler, arguments, results = frame()
    assert Runtime().call(handler, arguments, results) is None


@pytest.mark.parametrize("number", range(7))
def test_a_wrong_size_is_an_error_before_anything_is_read(number):
    handler, arguments, results = frame()
    kept = results[0].copy()
    for axis in range(arguments[number].ndim):
        wrong = list(arguments)
        wrong[number] = np.concatenate([wrong[number]] * 2, axis=axis)
        runtime = Runtime()
        assert runtime.call(handler, wrong, results) == 1003
        assert runtime.messages[0][0] == 3
        assert "m3sr" in runtime.messages[0][1]
    np.testing.assert_array_equal(results[0], kept)


def test_a_wrong_rank_type_or_number_of_buffers_is_an_error():
    handler, arguments, results = frame()
    assert Runtime().call(handler, [arguments[0][0], *arguments[1:]], results) == 1003
    assert Runtime().call(handler, arguments[:-1], results) == 1003
    assert Runtime().call(handler, arguments, [*results, results[0]]) == 1003
    assert Runtime().call(handler, arguments, results, types=12) == 1003


def test_other_states_than_compiled_are_an_error():
    handler, arguments, results = frame()
    fewer = [array[..., :5] if number in (3, 4) else array for number, array in enumerate(arguments)]
    assert Runtime().call(handler, [np.ascontiguousarray(array) for array in fewer], results) == 1003


def test_the_runtimes_errors_become_the_calls():
    handler, arguments, results = frame()
    assert Runtime(refuse=[COUNT_THREADS]).call(handler, arguments, results) == 78
    expected = results[0].copy()
    assert Runtime().call(handler, arguments, results) is None
    expected, results[0][...] = results[0].copy(), 0
    assert Runtime(threads=2, refuse=[SCHEDULE]).call(handler, arguments, results) == 77
    np.testing.assert_array_equal(results[0], expected)  # the calling thread did all of it


@pytest.mark.parametrize(
    ("version", "answer"),
    [((0, 3), (0, 3)), ((0, 2), (0, 2)), ((0, 9), (0, 3)), ((1, 0), None), ((1, 3), None), ((0, 0), None)],
)
def test_only_known_versions_of_the_interface_are_answered(version, answer):
    runtime = Runtime(version=version)
    assert runtime.ask(address("ss2d forward", 8)[0]) == answer
    assert bool(runtime.messages) == (answer is None)
