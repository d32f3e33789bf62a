"""Kernels read and write their buffers and their own memory and nothing else, whatever the order of threads."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from .frames import Fenced, Runtime
from .kernels import KERNELS, address, buffers, sizes


def test_the_fences_fault():
    """In a process of its own, one touch beyond each kind of fence."""
    program = (
        "import ctypes, sys; from tests.m3sr_kernels.native.frames import Fenced, FencedMemory;"
        "values = [0.0] * 1030; memory = FencedMemory(); block = memory._allocate(64 + 4 * 1024);"
        "after, before = Fenced(values).array, Fenced(values, before=True).array;"
        "places = [after.ctypes.data + after.nbytes, before.ctypes.data - 1, block + 4 * 1024];"
        "ctypes.c_char.from_address(places[int(sys.argv[1])] + int(sys.argv[2])).value"
    )
    for place in range(3):
        for beyond, code in ((0, -signal.SIGSEGV), (1 if place == 1 else -1, 0)):
            command = [sys.executable, "-c", program, str(place), str(beyond)]
            assert subprocess.run(command, env=os.environ | {"PYTHONPATH": "."}, check=False).returncode == code


def run(name, states, seed, *, before, threads):
    """Results of a kernel whose buffers border on forbidden pages."""
    rng = np.random.default_rng(seed)
    handler, kernel = address(name, states)
    letters = sizes(rng, states)[name.split()[0]]
    arguments = [Fenced(array, before=before) for array in buffers(kernel.signature.arguments, letters, rng)]
    results = [Fenced(array * np.nan, before=before) for array in buffers(kernel.signature.results, letters, rng)]
    copies = [fenced.array.copy() for fenced in arguments]
    runtime = Runtime(threads)
    answer = runtime.call(handler, [fenced.array for fenced in arguments], [fenced.array for fenced in results])
    assert answer is None, runtime.messages
    for fenced, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(fenced.array, copy)
    return [fenced.array.copy() for fenced in results]


@pytest.mark.parametrize("states", [8, 5])
@pytest.mark.parametrize("name", KERNELS)
def test_nothing_outside_a_buffer_is_touched_and_every_number_is_written(name, states):
    for seed in range(12):
        results = run(name, states, seed, before=seed % 2 == 0, threads=1 + seed % 5)
        assert all(np.isfinite(array).all() for array in results), seed


@pytest.mark.parametrize("name", KERNELS)
def test_results_are_the_same_bits_whatever_the_order_of_threads(name):
    for seed in range(3):
        first, *others = (run(name, 8, seed, before=False, threads=4) for _ in range(5))
        for other in others:
            for expected, found in zip(first, other, strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", KERNELS)
def test_segments_for_many_threads_change_rounding_alone(name):
    for seed in range(4):
        few, many = (run(name, 8, seed, before=False, threads=threads) for threads in (1, 16))
        for expected, found in zip(few, many, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
