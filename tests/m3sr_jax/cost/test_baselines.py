"""Counts of the baselines: the published ones, and those of the programs themselves."""

import math

import jax
import jax.numpy as jnp
import pytest

from m3sr_jax.cost.count import cost_report
from m3sr_jax.models import create, parameter_shapes

# Parameters in the release, never used, seen by thop; GFLOP by thop at 482×512. Published: 808.0, 1249.0, 177.7, 8.0
# and, for FMNet, 5819.5; none for HSRNet and ESSAformer.
PUBLISHED = {
    "hscnn_plus": (1_642_015, 272, 1_641_743, 807.998),
    "hrnet": (31_704_863, 195_840, 31_704_863, 1249.005),
    "mst_plus_plus": (1_619_625, 0, 1_619_595, 177.737),
    "gmsr": (44_980, 122, 18_666, 7.988),
    "hsrnet": (682_610, 0, 682_610, 321.078),
    "fmnet": (11_792_925, 0, 11_792_925, 5819.522),
    "essaformer": (6_113_567, 0, 6_113_567, 7480.880),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_come_out(name):
    model = create(name)
    total = cost_report(model).total
    released, unused, thop_parameters, thop_gflop = PUBLISHED[name]
    assert total.parameters == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameter_shapes(model)))
    assert (total.parameters + total.unused, total.unused) == (released, unused)
    assert total.thop_parameters == thop_parameters
    assert round(total.thop_flops / 1e9, 3) == thop_gflop


def traced_flops(model, height, width):
    """Two operations for every multiply-add of the program's convolutions and matrix products."""
    params, image = parameter_shapes(model), jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    program = jax.make_jaxpr(lambda params, rgb: model.apply({"params": params}, rgb))(params, image)
    return sum(_flops(equation) for equation in _equations(program.jaxpr))


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _equations(value.jaxpr)


def _flops(equation):
    outputs = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "conv_general_dilated":
        return 2 * outputs * math.prod(equation.invars[1].aval.shape[:-1])
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * outputs * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 0


@pytest.mark.parametrize("name", ["hscnn_plus", "hrnet", "mst_plus_plus", "hsrnet", "fmnet", "essaformer"])
def test_exact_counts_are_those_of_the_traced_program(name, monkeypatch):
    monkeypatch.setattr("m3sr_jax.models.layers.conv_whole_vectors", None)  # without the outputs that it cuts off
    model = create(name)
    height, width = 21, 30
    expected = traced_flops(model, height, width)
    if name == "mst_plus_plus":  # its depthwise convolutions are sums of shifted images
        pixels, parts = 24 * 32, [(31, 1, 2), (62, 4, 2), (124, 16, 1)]
        depthwise = sum(count * (2 + 4) * channels * pixels // shrink for channels, shrink, count in parts)
        expected += model.transformers * 2 * 9 * depthwise
    assert cost_report(model, height, width).total.flops == expected
