"""Exponentials within two units in the last place of float64's, NaN and infinity as in the definitions."""

import ctypes

import numpy as np
import pytest
from m3sr_kernels.native import vector_math
from m3sr_kernels.native.compiler import load

FUNCTIONS = {
    "exp2": np.exp2,
    "exp": np.exp,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}
ULPS = {"exp2": 2, "exp": 1, "sigmoid": 2.1, "silu": 2.5, "softplus": 3}
SMALLEST = 2.0**-125  # below, results are flushed to zero, as XLA does


def apply(name, x):
    def build(module):
        def body(k, source, target, count):
            with k.loop(count, step=k.lanes) as i:
                k.store(getattr(vector_math, name)(k, k.load(source, i)), target, i)
            k.finish(0)

        module.exported(f"math_{name}", "ppi", "i", body)

    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    x = np.ascontiguousarray(x, np.float32)
    result = np.empty_like(x)
    function(load(f"math_{name}", build))(x.ctypes.data, result.ctypes.data, x.size)
    return result


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_right_to_the_last_digits(name):
    rng = np.random.default_rng(0)
    magnitudes = 2.0 ** rng.uniform(-30, 6.4, 2**17)
    x = np.concatenate([magnitudes, -magnitudes, np.linspace(-88, 88, 2**16)]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = FUNCTIONS[name](x.astype(np.float64))
    found = apply(name, x)
    normal = (np.abs(expected) > SMALLEST) & (np.abs(expected) < 2.0**127)
    ulp = np.spacing(np.abs(expected[normal]).astype(np.float32))
    error = np.abs(found[normal] - expected[normal]) / ulp
    assert error.max() <= ULPS[name], (error.max(), x[normal][error.argmax()])
    small = np.abs(expected) <= SMALLEST
    assert (np.abs(found[small]) <= 2 * SMALLEST).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_and_infinity_spread(name):
    x = np.tile(np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, 200]), 4)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](x.astype(np.float64)).astype(np.float32)
    if name == "silu":  # x·sigmoid(x), as JAX defines it
        expected[np.isneginf(x)] = np.nan
    np.testing.assert_allclose(apply(name, x), expected, rtol=1e-6, atol=1e-30)
