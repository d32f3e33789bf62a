"""Every implementation of every op against the definition, on the cases of the op's `cases.py`.

Pallas kernels are interpreted on the CPU.
"""

import functools
import importlib
import os

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
import pytest

from .comparison import assert_close, compile_fast, value_and_gradient
from .mamba_token_mix import cases as mamba_token_mix
from .s6_scan import cases as s6_scan
from .ss2d_scan import cases as ss2d_scan
from .ssd_scan import cases as ssd_scan

OPS = {"s6_scan": s6_scan, "ssd_scan": ssd_scan, "ss2d_scan": ss2d_scan, "mamba_token_mix": mamba_token_mix}
IMPLEMENTATIONS = [
    (op, name) for op in OPS for name in importlib.import_module(f"m3sr_kernels.{op}.api").IMPLEMENTATIONS
]
SCANS = [(op, name) for op, name in IMPLEMENTATIONS if op != "mamba_token_mix"]  # it computes in the tokens' dtype
# About layouts that "xla" chooses by size; Pallas kernels take these sizes as they take the other cases'.
ABOUT_XLA = {"s6_scan": ["channels of two loop bodies"], "ss2d_scan": ["padded to a square", "too long for a square"]}
FLOAT32_TOLERANCE = 2e-5
HALF_TOLERANCE = 2**-8  # the inputs are the same bfloat16 numbers and sums are float32: each result is rounded once


@pytest.fixture(autouse=True)
def interpreted_with_small_tiles(small_tiles):
    pass


@functools.cache
def compiled(op, implementation, *, optimised=False):
    return (jax.jit if optimised else compile_fast)(value_and_gradient(op, implementation))


def definition(op, arrays):
    """Gradients and results in float64, as numpy arrays."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda array: jnp.asarray(np.asarray(array, np.float64)), arrays)
        return jax.tree.map(np.asarray, compiled(op, "reference")(wide))


definition_of_case = functools.cache(lambda op, case: definition(op, OPS[op].CASES[case].draw(np.float32)))


@pytest.mark.parametrize(
    ("op", "implementation", "case"),
    [(op, name, case) for op, name in IMPLEMENTATIONS if name != "reference" for case in OPS[op].CASES],
)
def test_value_and_gradient_equal_the_definition(op, implementation, case):
    """In float64, where only the order of the sums differs; Mosaic and native kernels compute in float32."""
    if implementation.startswith("pallas") and case in ABOUT_XLA.get(op, []) and "M3SR_FULL_MATRIX" not in os.environ:
        pytest.skip("set M3SR_FULL_MATRIX=1 (make matrix) for every case by every implementation")
    mosaic = implementation == "pallas_mosaic"
    single = mosaic or implementation == "native"
    arrays = OPS[op].CASES[case].draw(np.float32)
    few = ("s6_scan", "mamba_token_mix") if mosaic else ("mamba_token_mix",) if single else ()
    if op in few and arrays["x" if "x" in arrays else "tokens"].shape[1] > 16:
        pytest.skip("takes at most 16 tokens and refuses more: test_gpu_lowering, native/test_call")
    expected = definition_of_case(op, case)
    with jax.enable_x64(not single):
        got = compiled(op, implementation)(OPS[op].CASES[case].draw(np.float32 if single else np.float64))
    assert_close(got, expected, FLOAT32_TOLERANCE if single else OPS[op].TOLERANCE)


@pytest.mark.parametrize(("op", "implementation"), SCANS)
def test_half_precision_is_rounded_once_and_extreme_steps_stay_finite(op, implementation):
    """Δ from an underflow to decays that underflow, side by side in one sequence."""
    run = compiled(op, implementation, optimised=implementation == "xla")
    narrow = next(iter(OPS[op].CASES.values())).draw(jnp.bfloat16)
    gradients, results = run(narrow)
    expected_gradients, expected_results = definition(op, narrow)
    y, expected_y = (jax.tree.leaves(tree)[0] for tree in (results, expected_results))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected_y, rtol=HALF_TOLERANCE, atol=1e-5)
    assert all(gradients[name].dtype == jnp.bfloat16 for name in narrow)
    assert_close(gradients, expected_gradients, HALF_TOLERANCE)
    for shift in (-200.0, 60.0, 5000.0):
        steps = np.s_[:, ::2, 1::3] if op == "ss2d_scan" else np.s_[:, 1::2]
        found = run(narrow | {"dt": narrow["dt"].at[steps].add(shift)})
        assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(found)), shift


@pytest.mark.parametrize(("op", "implementation"), IMPLEMENTATIONS)
def test_vmap_maps_sequences(op, implementation):
    arrays = next(iter(OPS[op].CASES.values())).draw(np.float32)
    batched = {"x", "dt", "b", "c", "z", "tokens"}
    axes = {name: 0 if name in batched else None for name in arrays}
    function = functools.partial(getattr(m3sr_kernels, op), implementation=implementation, interpret=True)

    def one(arrays):
        return function(**{name: array[None] if axes[name] == 0 else array for name, array in arrays.items()})[0]

    expected = compile_fast(lambda arrays: function(**arrays))(arrays)
    got = compile_fast(jax.vmap(one, in_axes=(axes,)))(arrays)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
