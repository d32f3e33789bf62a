"""The Triton kernels: chunks of every length, a photo in float32, and what an image's scan launches and writes."""

import dataclasses
import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import ss2d_scan, ssd_scan
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.ss2d_scan.shapes import SHAPES
from m3sr_kernels.ss2d_scan.shapes import Shape as Shape2D
from m3sr_kernels.ssd_scan.shapes import Shape
from m3sr_kernels.ssd_scan.triton import make_plan
from m3sr_kernels.ssd_scan.triton_geometry import LANES
from m3sr_kernels.tiles import TABLE

from ..comparison import assert_close, compile_fast, draw, specs, value_and_gradient


def test_a_photo_does_not_drift(small_tiles, monkeypatch):
    """482×512 pixels in one sequence, float32 against float64, with decays so slow that a state lives for thousands.

    The chunks are those of the GPU, 1,928 of 128 pixels; one head of two channels, because the interpreter is slow.
    """
    monkeypatch.setitem(TABLE["ssd_scan"]["default"], "chunk", 128)
    inputs = draw(Shape(1, 482 * 512, 1, 2, 1, 2).arguments, np.float32)
    inputs |= {"dt": 0.1 * inputs["dt"], "dt_bias": inputs["dt_bias"] - 7}
    options = {"implementation": "pallas_triton", "interpret": True}
    got = np.asarray(compile_fast(functools.partial(ssd_scan, **options))(**inputs))
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(np.asarray(value), jnp.float64) for name, value in inputs.items()}
        expected = np.asarray(jax.jit(functools.partial(ssd_scan, implementation="reference"))(**wide))
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


# The sizes of the GPU but for the chunk: four pixels at once, in full chunks, and in chunks that are not full.
@pytest.mark.parametrize("chunk", [32, 64, 128])
def test_chunks_of_every_length_give_the_same(chunk, monkeypatch):
    default = TABLE["ss2d_scan"]["default"]
    monkeypatch.setitem(TABLE["ss2d_scan"], "default", {**default, "chunk": chunk, "programs": 1})
    with jax.enable_x64(True):
        inputs = draw(Shape2D(1, 12, 16, 3, 3, 2).arguments)
        # The gradient takes a while to compile; its chunks are those of the value.
        results = value_and_gradient if chunk == 32 else value
        expected, got = (compile_fast(results("ss2d_scan", name))(inputs) for name in ("xla", "pallas_triton"))
        assert_close(got, expected, 1e-12)


def value(op, implementation):
    return lambda inputs: ss2d_scan(**inputs, implementation=implementation, interpret=True)


@pytest.mark.parametrize("case", SHAPES)
def test_chunks_are_the_longest_that_keep_the_device_busy(case):
    shape, sizes = SHAPES[case], TABLE["ss2d_scan"]["default"]
    plans = []

    def plan(*arrays):
        call, size = GpuCall("ss2d_scan", "pallas_triton"), (shape.height, shape.width)
        plans.append(make_plan(call, arrays, size, units=2, passes=2).forward)

    def programs(chunk):
        return math.prod(dataclasses.replace(plans[0], chunk=chunk).grid(1))

    jax.eval_shape(plan, *specs(shape).values())
    chunk = plans[0].chunk
    assert programs(chunk) >= sizes["programs"] or chunk == LANES
    assert chunk == sizes["chunk"] or programs(2 * chunk) < sizes["programs"]


def steps(jaxpr):
    """Every step of a program that needs a launch of its own, unless XLA fuses some; reshapes are views."""
    for eqn in jaxpr.eqns:
        leaf = eqn.primitive.name in ("pallas_call", "reduce")
        inner = [] if leaf else list(jax.extend.core.jaxprs_in_params(eqn.params))
        sizes = {math.prod(var.aval.shape) for var in (*eqn.invars, *eqn.outvars)}
        if inner:
            for sub in inner:
                yield from steps(sub)
        elif not (eqn.primitive.name in ("reshape", "broadcast_in_dim", "squeeze") and len(sizes) == 1):
            yield eqn


def program(shape, function=lambda run, inputs, dy: run(**inputs)):
    run = functools.partial(ss2d_scan, implementation="pallas_triton", interpret=True)
    inputs = specs(shape)
    return jax.make_jaxpr(lambda inputs, dy: function(run, inputs, dy))(inputs, inputs["x"]).jaxpr


def value_and_pullback(run, inputs, dy):
    y, pullback = jax.vjp(lambda inputs: run(**inputs), inputs)
    return y, pullback(dy)


@pytest.mark.parametrize("case", SHAPES)
def test_a_scan_takes_four_launches_and_thirteen_with_its_gradient(case):
    """Chunk states, states on entry, outputs of rows and of columns; six more kernels, and sums of their results.

    A step more is traced that XLA drops: the zeros of the cotangent of the last states, which an image does not use.
    """
    forward, both = list(steps(program(SHAPES[case]))), list(steps(program(SHAPES[case], value_and_pullback)))
    assert [eqn.primitive.name for eqn in forward] == ["pallas_call"] * 4
    names = [eqn.primitive.name for eqn in both]
    assert names.count("pallas_call") == 10
    assert len(names) <= 14, names


def test_the_forward_pass_writes_less_than_x_besides_y():
    """The chunk states once, and then in place; Δ and the decays; y once an axis."""
    shape = SHAPES["photo, spatial, full"]
    written = sorted(math.prod(var.aval.shape) for eqn in steps(program(shape)) for var in eqn.outvars)
    x = math.prod(shape.arguments["x"])
    assert written[-2:] == [x, x]
    assert sum(written[:-2]) <= 0.8 * x
