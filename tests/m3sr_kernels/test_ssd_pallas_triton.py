"""The GPU kernels of `ssd_scan` and `ss2d_scan`: numbers when interpreted, and lowering for CUDA at the model's sizes.

`test_release_numbers` compares them with the release. Interpreting says nothing about what Triton takes, so every shape
is lowered besides; that needs no GPU.
"""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from m3sr_kernels import ss2d_scan, ssd_scan
from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.ss2d_scan.shapes import SHAPES
from m3sr_kernels.ss2d_scan.shapes import Shape as ImageShape
from m3sr_kernels.ssd_scan.shapes import SHAPES as SEQUENCES
from m3sr_kernels.ssd_scan.shapes import Shape as SequenceShape
from m3sr_kernels.tiles import _table

# Odd, not square, no multiple of a chunk; heads and channels no powers of two; three blocks of heads in the gradient.
ODD = ImageShape(2, 5, 19, 3, 5, 2)
# float64 throughout: what remains is the order of the sums.
TOLERANCE = 1e-12
# Inputs are the same bfloat16 numbers and sums are float32; each gradient is rounded once.
HALF_TOLERANCE = 2**-8

compile_fast = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def draw(shape, *, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(size) for name, size in shape.arguments.items()}
    arrays["a"] = -np.exp(0.3 * arrays["a"])
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def loss(op, implementation, interpret=True):
    def objective(inputs):
        y = op(**inputs, implementation=implementation, interpret=interpret)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(jnp.bfloat16)
        return jnp.sum(y.astype(accumulation_dtype(y)) * weights.astype(accumulation_dtype(y)))

    return objective


def assert_close(got, expected, tolerance):
    for name, value in expected.items():
        scale = float(np.abs(np.asarray(value, np.float64)).max())
        error = np.abs(np.asarray(got[name], np.float64) - np.asarray(value, np.float64)).max()
        assert error <= tolerance * scale, (name, error / scale)


def test_value_and_gradient_equal_the_definition(small_tiles):
    with jax.enable_x64(True):
        inputs = draw(ODD)
        value, gradient = compile_fast(jax.value_and_grad(loss(ss2d_scan, "pallas_triton")))(inputs)
        expected_value, expected = jax.jit(jax.value_and_grad(loss(ss2d_scan, "reference")))(inputs)
    np.testing.assert_allclose(value, expected_value, rtol=TOLERANCE)
    assert_close(gradient, expected, TOLERANCE)


def test_half_precision_keeps_wide_sums_and_extremes_stay_finite(small_tiles):
    """bfloat16 inputs; Δ from an underflow to decays that underflow, side by side in one sequence."""
    value_and_gradient = compile_fast(jax.value_and_grad(loss(ss2d_scan, "pallas_triton")))
    reference = jax.jit(jax.grad(loss(ss2d_scan, "reference")))
    narrow = draw(ODD, dtype=jnp.bfloat16)
    _, gradient = value_and_gradient(narrow)
    assert all(gradient[name].dtype == jnp.bfloat16 for name in narrow)
    wide = {name: value.astype(jnp.float32) for name, value in narrow.items()}
    assert_close(gradient, reference(wide), HALF_TOLERANCE)
    for shift in (-200.0, 60.0, 5000.0):
        inputs = narrow | {"dt": narrow["dt"].at[:, ::2, 1::3].add(shift)}
        value, gradient = value_and_gradient(inputs)
        assert np.isfinite(value)
        assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(gradient)), shift


def test_half_precision_output_is_rounded_once(small_tiles):
    narrow = draw(ODD, dtype=jnp.bfloat16)
    run = compile_fast(functools.partial(ss2d_scan, implementation="pallas_triton", interpret=True))
    got = run(**narrow)
    expected = run(**{name: value.astype(jnp.float32) for name, value in narrow.items()})
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, expected.astype(jnp.bfloat16))


def test_a_photo_does_not_drift(small_tiles, monkeypatch):
    """482×512 pixels in one sequence, float32 against float64, with decays so slow that a state lives for thousands.

    The chunks are those of the GPU, 1,928 of them; one head of two channels, for the interpreter's sake.
    """
    monkeypatch.setitem(_table()["ssd_scan"]["default"], "chunk", 128)
    inputs = draw(SequenceShape(1, 482 * 512, 1, 2, 1, 2), dtype=np.float32)
    inputs |= {"dt": 0.1 * inputs["dt"], "dt_bias": inputs["dt_bias"] - 7}
    how = {"implementation": "pallas_triton", "interpret": True}
    got = np.asarray(compile_fast(functools.partial(ssd_scan, **how))(**inputs))
    with jax.enable_x64(True):
        wide = {name: jnp.asarray(np.asarray(value), jnp.float64) for name, value in inputs.items()}
        expected = np.asarray(jax.jit(functools.partial(ssd_scan, implementation="reference"))(**wide))
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_vmap_maps_images(small_tiles):
    inputs = draw(ODD, dtype=np.float32)
    how = {"implementation": "pallas_triton", "interpret": True}
    axes = {name: 0 if name in ("x", "dt", "b", "c") else None for name in inputs}
    one = lambda inputs: ss2d_scan(**{n: v[None] if axes[n] == 0 else v for n, v in inputs.items()}, **how)[0]  # noqa: E731
    got = compile_fast(jax.vmap(one, in_axes=(axes,)))(inputs)
    np.testing.assert_allclose(got, ss2d_scan(**inputs, implementation="reference"), rtol=1e-5, atol=1e-5)


def specs(shape, dtype):
    return {name: jax.ShapeDtypeStruct(size, dtype) for name, size in shape.arguments.items()}


def lower_for_cuda(function, arguments) -> str:
    return jax.jit(function).trace(arguments).lower(lowering_platforms=("cuda",)).as_text()


def gradient_on_cuda(op):
    return jax.value_and_grad(loss(op, "pallas_triton", interpret=False))


@pytest.mark.parametrize("name", SHAPES)
def test_images_lower_for_cuda(name):
    """Forward: chunk states, and the outputs of rows and columns; gradient: chunk cotangents, and two kernels an axis.

    Training is in bfloat16 and a photo in float32: what differs between dtypes is a cast, and between the two sizes of
    image a constant.
    """
    dtype = "bfloat16" if "training" in name else "float32"
    text = lower_for_cuda(gradient_on_cuda(ss2d_scan), specs(SHAPES[name], dtype))
    assert text.count("xla.gpu.triton") == 8


@pytest.mark.parametrize("name", SHAPES)
def test_forward_lowers_for_cuda_in_the_other_dtype(name):
    dtype = "float32" if "training" in name else "bfloat16"
    forward = functools.partial(ss2d_scan, implementation="pallas_triton")
    assert lower_for_cuda(lambda inputs: forward(**inputs), specs(SHAPES[name], dtype)).count("xla.gpu.triton") == 3


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_lower_for_cuda(name):
    assert lower_for_cuda(gradient_on_cuda(ssd_scan), specs(SEQUENCES[name], "float32")).count("xla.gpu.triton") == 5


def test_kernels_are_the_choice_on_cuda_only(small_tiles):
    gradient = jax.jit(jax.grad(loss(ss2d_scan, None, interpret=False))).trace(specs(ODD, "float32"))
    kernels = {p: gradient.lower(lowering_platforms=(p,)).as_text().count("xla.gpu.triton") for p in ("cuda", "cpu")}
    assert kernels == {"cuda": 8, "cpu": 0}


def test_kernels_lower_under_remat_vmap_and_shard_map(small_tiles):
    arguments = specs(ODD, "float32")
    objective = loss(ss2d_scan, "pallas_triton", interpret=False)
    assert lower_for_cuda(jax.grad(jax.checkpoint(objective)), arguments).count("xla.gpu.triton") == 8
    stacked = {name: jax.ShapeDtypeStruct((3, *spec.shape), spec.dtype) for name, spec in arguments.items()}
    assert lower_for_cuda(jax.vmap(jax.grad(objective)), stacked).count("xla.gpu.triton") == 8
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over_images = {name: PartitionSpec("data" if name in ("x", "dt", "b", "c") else None) for name in arguments}

    def gradient_of_shard(inputs):
        """What a data-parallel step does: the gradient of each shard, the parameters' summed over them."""
        gradient = jax.grad(objective)(inputs)
        return {n: jax.lax.psum(g, "data") if n in ("a", "d", "dt_bias") else g for n, g in gradient.items()}

    sharded = jax.shard_map(
        gradient_of_shard, mesh=mesh, in_specs=(over_images,), out_specs=over_images, check_vma=False
    )
    assert lower_for_cuda(sharded, arguments).count("xla.gpu.triton") == 8


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
    written = sorted(sizes_written(jax.make_jaxpr(lambda inputs: run(**inputs))(specs(shape, "float32")).jaxpr))
    x = math.prod(shape.arguments["x"])
    assert written[-2:] == [x, x]
    assert written[-3] <= x / 8
