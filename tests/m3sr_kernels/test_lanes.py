"""Contractions in their two forms, for CPUs and for all other platforms, and the scans that are made of them.

The form of the other platforms runs here on a CPU, too.
"""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels.lanes import contract_at_once, contract_unrolled
from m3sr_kernels.mamba_token_mix.xla import xla_mamba_token_mix
from m3sr_kernels.s6_scan.shapes import SHAPES as TOKENS
from m3sr_kernels.s6_scan.xla import xla_s6_scan
from m3sr_kernels.ss2d_scan.shapes import SHAPES as IMAGES
from m3sr_kernels.ss2d_scan.xla import xla_ss2d_scan
from m3sr_kernels.ssd_scan.xla import xla_ssd_scan

from .comparison import assert_close, compile_fast, lower_for_cuda, specs, value_and_gradient
from .mamba_token_mix import cases as mamba_token_mix
from .s6_scan import cases as s6_scan
from .ss2d_scan import cases as ss2d_scan
from .ssd_scan import cases as ssd_scan

OPS = {"s6_scan": s6_scan, "ssd_scan": ssd_scan, "ss2d_scan": ss2d_scan, "mamba_token_mix": mamba_token_mix}
SPECS = ["abv,bcv->acv", "ab,cbv->acv", "abv,abv->v", "av,bv->abv", "abcv,cbdv->adv"]


@pytest.mark.parametrize("spec", SPECS)
def test_both_forms_are_the_contraction(spec):
    sizes, rng = {"a": 2, "b": 3, "c": 4, "d": 2, "v": 5}, np.random.default_rng(0)
    operands, out = spec.split("->")
    with jax.enable_x64(True):
        left, right = (jnp.asarray(rng.standard_normal([sizes[a] for a in letters])) for letters in operands.split(","))
        for form in (contract_unrolled, contract_at_once):
            found = jax.jit(functools.partial(form, *operands.split(","), out))(left, right)
            np.testing.assert_allclose(found, np.einsum(spec, left, right), atol=1e-14)


@pytest.fixture
def other_platform(monkeypatch):
    """Programs are traced as for another platform than a CPU, and those that are cached are forgotten."""
    cached = (xla_s6_scan, xla_ssd_scan, xla_ss2d_scan, xla_mamba_token_mix)
    for module in ("m3sr_kernels.lanes", "m3sr_kernels.s6_scan.xla"):
        take_second = lambda _, elsewhere, *arrays: elsewhere(*arrays)  # noqa: E731
        monkeypatch.setattr(importlib.import_module(module), "by_platform", take_second)
    for function in cached:
        function.clear_cache()  # type: ignore[attr-defined]
    yield
    for function in cached:
        function.clear_cache()  # type: ignore[attr-defined]


@pytest.mark.parametrize("op", OPS)
def test_the_form_of_other_platforms_equals_the_definition(op, other_platform):
    case = next(iter(OPS[op].CASES.values()))
    with jax.enable_x64(True):
        expected = compile_fast(value_and_gradient(op, "reference"))(case.draw())
        got = compile_fast(value_and_gradient(op, "xla"))(case.draw())
    assert_close(got, expected, OPS[op].TOLERANCE)


@pytest.mark.parametrize(
    ("op", "shape", "most"),
    [("ss2d_scan", IMAGES["photo, spatial, full"], 2500), ("s6_scan", TOKENS["photo, full"], 800)],
)
def test_programs_for_other_platforms_are_short(op, shape, most):
    """XLA compiles a GPU program kernel by kernel; unrolled contractions make three times as many."""
    gradient = value_and_gradient(op, "xla", interpret=False)
    assert lower_for_cuda(gradient, specs(shape)).count("stablehlo.") <= most
