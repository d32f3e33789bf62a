"""The Triton kernels on a photo: precision of one long sequence, and what an image's forward pass writes."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from m3sr_kernels import ss2d_scan, ssd_scan
from m3sr_kernels.ss2d_scan.shapes import SHAPES
from m3sr_kernels.ssd_scan.shapes import Shape
from m3sr_kernels.tiles import TABLE

from ..comparison import compile_fast, draw, specs


def test_a_photo_does_not_drift(small_tiles, monkeypatch):
    """482×512 pixels in one sequence, float32 against float64, with decays so slow that a state lives for thousands.

    The chunks are those of the GPU, 1,928 of them; one head of two channels, because the interpreter is slow.
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


def sizes_written(jaxpr):
    """Elements of every array that a program writes; reshapes are views, and kernels are one step."""
    for eqn in jaxpr.eqns:
        inner = [] if eqn.primitive.name == "pallas_call" else jax.extend.core.jaxprs_in_params(eqn.params)
        if inner:
            for sub in inner:
                yield from sizes_written(sub)
        elif eqn.primitive.name != "reshape":
            yield from (math.prod(var.aval.shape) for var in eqn.outvars)


def test_the_forward_pass_writes_nothing_larger_than_an_eighth_of_x():
    """Besides y itself, which each axis writes once."""
    shape = SHAPES["photo, spatial, full"]
    run = functools.partial(ss2d_scan, implementation="pallas_triton", interpret=True)
    written = sorted(sizes_written(jax.make_jaxpr(lambda inputs: run(**inputs))(specs(shape)).jaxpr))
    x = math.prod(shape.arguments["x"])
    assert written[-2:] == [x, x]
    assert written[-3] <= x / 8
