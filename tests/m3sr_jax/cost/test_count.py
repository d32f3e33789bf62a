"""Counts: against the model's own parameters, the published thop figures, and the products in the traced program."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from m3sr_jax.cost.count import cost_report, cost_table
from m3sr_jax.cost.m3sr import m3sr_costs
from m3sr_jax.cost.terms import Cost
from m3sr_jax.models import M3SR, parameter_shapes

# G → the release's parameters, and thop's millions of parameters and GFLOP at 482×512, as published.
PUBLISHED = {
    2: (2_785_258, "2.066", "91.3"),
    4: (2_887_062, "2.166", "100.9"),
    8: (3_090_670, "2.368", "120.1"),
    16: (3_497_886, "2.770", "158.6"),
}
VARIANTS = [
    {},
    {"num_groups": 3, "features": 20, "num_bands": 28, "num_blocks": (2, 1, 1), "num_stages": 2},
    {"branches": ("spatial",), "features": 48},
    {"branches": ("frequency", "spectral"), "num_groups": 1},
]


def total(model, height=482, width=512):
    return sum(m3sr_costs(model, height, width).values(), Cost())


@pytest.mark.parametrize("groups", PUBLISHED)
def test_published_costs(groups):
    release, parameters, flops = PUBLISHED[groups]
    cost = total(M3SR(num_groups=groups))
    assert cost.parameters + cost.unused == release
    assert f"{cost.thop_parameters / 1e6:.3f}" == parameters
    assert f"{cost.thop_flops / 1e9:.1f}" == flops


def test_thop_parameters_of_the_default_to_the_last_one():
    cost = total(M3SR())
    assert (cost.thop_parameters, cost.parameters, cost.unused) == (2_166_373, 2_786_188, 100_874)


def products(jaxpr):
    """Operations of every matrix product and convolution in a program, loops counted as often as they run."""
    count = 0
    for equation in jaxpr.eqns:
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        assert equation.primitive.name != "while", "a loop of unknown length"
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            count += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            count += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_axis]
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
                if isinstance(inner, core.Jaxpr):
                    count += repeats * products(inner)
    return count


def small_convolutions(params, pixels, groups):
    """The depthwise 3×3 and the causal convolutions, which the program writes as shifted multiply-adds."""
    count = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in path]
        if names[-1] != "conv_kernel":
            continue
        level = 2 if "bottleneck" in names else int(names[1][-1])
        places = pixels >> 2 * level
        places = places // 4 if "frequency" in names else places * groups if "mixer" in names else places
        count += 2 * leaf.size * places
    return count


@pytest.mark.parametrize("fields", VARIANTS)
def test_counts_are_those_of_the_parameter_tree_and_the_traced_program(fields, monkeypatch):
    """The reference scans hold no matrix product, so that what is left of the program is everything but the scans."""
    monkeypatch.setattr("m3sr_jax.models.layers.conv_whole_vectors", None)  # without the outputs that it cuts off
    model = M3SR(**fields, implementation="reference")
    params = parameter_shapes(model)
    image = jax.ShapeDtypeStruct((1, 21, 30, 3), jnp.float32)
    program = jax.make_jaxpr(lambda params, rgb: model.apply({"params": params}, rgb))(params, image)
    cost = total(model, 21, 30)
    assert cost.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    shifted = small_convolutions(params, 24 * 32, model.num_groups)
    assert products(program.jaxpr) + shifted == cost.flops - cost.scan_flops


def test_operations_of_the_scans_by_hand():
    """A spatial branch of one block a level, C = 4: I = 8, one head; N = 8 states, four directions."""
    model = M3SR(num_groups=1, features=4, num_bands=4, branches=("spatial",))
    by_level = []
    for inner, heads in ((8, 1), (16, 1), (32, 1)):
        state = inner * 8 * (3 + 2)
        decay = heads * 2
        by_level.append(4 * (state + decay + inner + 2 * inner) + 3 * inner)
    pixels = 64 * 64
    expected = pixels * (2 * by_level[0] + 2 * by_level[1] / 4 + by_level[2] / 16)
    assert total(model, 64, 64).scan_flops == expected


def test_a_report_has_every_count_under_its_label():
    from rich.console import Console

    model = M3SR(num_groups=2, features=8, implementation="reference")
    report = cost_report(model, 24, 24)
    assert report.parameters == report.total.parameters
    assert report.xla_flops > 0
    console = Console(width=80)
    with console.capture() as captured:
        console.print(cost_table(report))
    text = captured.get()
    for expected in ("24×24", f"{report.parameters:,}", f"{report.total.thop_parameters:,}", "XLA counts"):
        assert expected in text
