"""The GPU kernels are lowered for CUDA on a machine without a GPU, and refused for other platforms."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
import pytest
from jax import export
from jax.sharding import PartitionSpec
from m3sr_kernels import s6_scan
from m3sr_kernels.dispatch import resolve
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.mamba_token_mix.shapes import SHAPES as BLOCKS
from m3sr_kernels.s6_scan.shapes import SHAPES as TOKENS
from m3sr_kernels.s6_scan.shapes import Shape
from m3sr_kernels.ss2d_scan.shapes import SHAPES as IMAGES
from m3sr_kernels.ss2d_scan.shapes import Shape as ImageShape
from m3sr_kernels.ssd_scan.shapes import SHAPES as SEQUENCES
from m3sr_kernels.ssd_scan.shapes import Shape as SequenceShape

from .comparison import draw, lower_for_cuda, specs, value_and_gradient

SHAPES = {"s6_scan": TOKENS, "mamba_token_mix": BLOCKS, "ssd_scan": SEQUENCES, "ss2d_scan": IMAGES}
TRITON, MOSAIC = "xla.gpu.triton", "mosaic_gpu_v2"  # in the name of the custom call that holds a kernel
# XLA's own, and the call of a kernel by its names in jax 0.10 and 0.11.
EXPORTABLE = ("LayoutConstraint", "__gpu$xla.gpu.triton", "triton_kernel_call_ffi")
# An image: chunk states, states on entry, and the outputs of rows and columns; the gradient: chunk cotangents,
# cotangents on exit, and two kernels an axis. A sequence has one path instead of two; S6 has one kernel each way, the
# block around it also its convolution.
FORWARD_KERNELS = {"s6_scan": 1, "mamba_token_mix": 2, "ssd_scan": 3, "ss2d_scan": 4}
ALL_KERNELS = {"s6_scan": 2, "mamba_token_mix": 4, "ssd_scan": 7, "ss2d_scan": 10}
# Of Mosaic, forward and gradient: two and three an axis of an image, one and two for S6.
MOSAIC_KERNELS = {"s6_scan": 3, "mamba_token_mix": 3, "ssd_scan": 5, "ss2d_scan": 10}
IMAGE, SEQUENCE, SHORT = ImageShape(2, 5, 19, 3, 5, 2), SequenceShape(2, 7, 4, 3, 2, 2), Shape(6, 4, 5, 3)


def lower_gradient(op, arguments, implementation="pallas_triton") -> str:
    return lower_for_cuda(value_and_gradient(op, implementation, interpret=False), arguments)


def needs_time(case):
    """Skips the half sizes, whose programs are those of the sizes around them with other constants."""
    if "half" in case and "M3SR_FULL_MATRIX" not in os.environ:
        pytest.skip("set M3SR_FULL_MATRIX=1 (make matrix) for every shape of the model")


def short_scan():
    return draw(SHORT.arguments, np.float32)


@pytest.mark.parametrize(("op", "case"), [(op, case) for op in SHAPES for case in SHAPES[op]])
def test_gradients_lower_at_the_model_shapes(op, case):
    """Training is in bfloat16 and a photo in float32: dtypes differ by a cast, sizes by a constant."""
    needs_time(case)
    dtype = jnp.bfloat16 if case.startswith("training") else jnp.float32
    count = lower_gradient(op, specs(SHAPES[op][case], dtype)).count(TRITON)
    # The gradient of the block recomputes its convolution.
    assert count >= ALL_KERNELS[op] if op == "mamba_token_mix" else count == ALL_KERNELS[op]


@pytest.mark.parametrize(("op", "case"), [(op, case) for op in MOSAIC_KERNELS for case in SHAPES[op]])
def test_mosaic_gradients_lower_at_the_model_shapes(op, case):
    needs_time(case)
    dtype = jnp.bfloat16 if case.startswith("training") else jnp.float32
    text = lower_gradient(op, specs(SHAPES[op][case], dtype), "pallas_mosaic")
    assert (text.count(MOSAIC), text.count(TRITON)) == (MOSAIC_KERNELS[op], 0)


@pytest.mark.parametrize("case", IMAGES)
def test_forward_lowers_in_the_other_dtype(case):
    needs_time(case)
    arguments = specs(IMAGES[case], jnp.float32 if case.startswith("training") else jnp.bfloat16)
    forward = functools.partial(m3sr_kernels.ss2d_scan, implementation="pallas_triton")
    assert (
        lower_for_cuda(lambda arguments: forward(**arguments), arguments).count(TRITON) == FORWARD_KERNELS["ss2d_scan"]
    )


@pytest.mark.parametrize(
    ("op", "case", "kernels"),
    [
        ("s6_scan", "photo, full", 1),
        ("s6_scan", "photo, full, 16 groups", 1),
        ("ssd_scan", "photo, four directions stacked, 16 states", 2),
        ("ss2d_scan", "photo, spatial, full", 4),
        ("ss2d_scan", "training, frequency, full", 4),
        ("ss2d_scan", "training, frequency, quarter", 4),
    ],
)
def test_mosaic_lowers_at_the_model_shapes_and_is_not_the_default(op, case, kernels):
    inputs = specs(SHAPES[op][case], jnp.bfloat16 if "training" in case else jnp.float32)
    run = getattr(m3sr_kernels, op)
    text = lower_for_cuda(lambda inputs: run(**inputs, implementation="pallas_mosaic"), inputs)
    assert text.count(MOSAIC) == kernels
    assert MOSAIC not in lower_for_cuda(lambda inputs: run(**inputs), inputs)


def test_a_long_sequence_lowers_in_segments():
    assert TRITON in lower_gradient("s6_scan", specs(Shape(3, 1000, 62)))


@pytest.mark.parametrize(("implementation", "kernel"), [("pallas_triton", TRITON), ("pallas_mosaic", MOSAIC)])
def test_vmap_and_remat_lower(implementation, kernel):
    arguments = {name: jnp.stack([array] * 2) for name, array in short_scan().items()}
    scan = jax.checkpoint(lambda one: s6_scan(**one, implementation=implementation))
    assert kernel in lower_for_cuda(lambda arrays: jax.vmap(scan)(arrays), arguments)
    assert kernel in lower_for_cuda(jax.grad(lambda arrays: jnp.sum(jax.vmap(scan)(arrays))), arguments)


def test_images_lower_under_remat_vmap_and_shard_map(small_tiles):
    arguments = specs(IMAGE)
    gradient = value_and_gradient("ss2d_scan", "pallas_triton", interpret=False)
    objective = lambda inputs: jnp.sum(m3sr_kernels.ss2d_scan(**inputs, implementation="pallas_triton"))  # noqa: E731
    assert lower_for_cuda(jax.grad(jax.checkpoint(objective)), arguments).count(TRITON) == ALL_KERNELS["ss2d_scan"]
    stacked = {name: jax.ShapeDtypeStruct((3, *spec.shape), spec.dtype) for name, spec in arguments.items()}
    assert lower_for_cuda(jax.vmap(gradient), stacked).count(TRITON) == ALL_KERNELS["ss2d_scan"]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over_images = {name: PartitionSpec("data" if name in ("x", "dt", "b", "c") else None) for name in arguments}

    def gradient_of_shard(inputs):
        """What a data-parallel step does: the gradient of each shard, the parameters' summed over them."""
        gradients, _ = gradient(inputs)
        return {n: jax.lax.psum(g, "data") if n in ("a", "d", "dt_bias") else g for n, g in gradients.items()}

    sharded = jax.shard_map(
        gradient_of_shard, mesh=mesh, in_specs=(over_images,), out_specs=over_images, check_vma=False
    )
    assert lower_for_cuda(sharded, arguments).count(TRITON) == ALL_KERNELS["ss2d_scan"]


@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit, jax.grad])
def test_an_explicit_kernel_is_refused_for_a_cpu_with_the_reason(compile_):
    run = compile_(lambda arrays: jnp.sum(s6_scan(**arrays, implementation="pallas_triton")))
    reason = r"s6_scan: .*'pallas_triton'.* compiled for cpu; use .*interpret=True"
    with pytest.raises(NotImplementedError, match=reason):
        run(short_scan())


def test_mosaic_is_refused_where_it_does_not_reach():
    scan = functools.partial(s6_scan, implementation="pallas_mosaic")
    with pytest.raises(NotImplementedError, match="at most 16 tokens, got 17"):
        scan(**draw(Shape(2, 17, 2, 2).arguments, np.float32), interpret=True)
    with pytest.raises(NotImplementedError, match="compiled for cpu"):
        scan(**draw(Shape(2, 2, 2, 2).arguments, np.float32))
    for op, shape in (("s6_scan", SHORT), ("ssd_scan", SEQUENCE), ("ss2d_scan", IMAGE)):
        with jax.enable_x64(True), pytest.raises(NotImplementedError, match=r"_scan: .* in float64"):
            getattr(m3sr_kernels, op)(**draw(shape.arguments), implementation="pallas_mosaic", interpret=True)


@pytest.mark.parametrize(("op", "shape"), [("s6_scan", SHORT), ("ss2d_scan", IMAGE)])
def test_none_is_settled_by_the_platform_compiled_for(op, shape, small_tiles):
    gradient = jax.jit(value_and_gradient(op, None, interpret=False)).trace(specs(shape))
    kernels = {p: gradient.lower(lowering_platforms=(p,)).as_text().count(TRITON) for p in ("cuda", "cpu")}
    assert kernels == {"cuda": ALL_KERNELS[op], "cpu": 0}
    assert (resolve(None, "cpu"), resolve(None, "gpu"), resolve("xla", "gpu")) == ("native", "pallas_triton", "xla")


@pytest.mark.parametrize("op", SHAPES)
def test_kernels_are_traced_for_cuda_alone(op, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a kernel was traced")

    monkeypatch.setattr("jax.experimental.pallas.pallas_call", refuse)
    gradient = jax.jit(value_and_gradient(op, None, interpret=False)).trace(specs(next(iter(SHAPES[op].values()))))
    gradient.lower(lowering_platforms=("cpu",))
    with pytest.raises(AssertionError, match="a kernel was traced"):
        gradient.lower(lowering_platforms=("cuda",))


def test_a_call_whose_results_have_other_shapes_is_refused():
    call = GpuCall("op", "pallas_triton", interpret=True)
    with pytest.raises(TypeError, match=r"op: kernels return .*\(3,\).* not .*\(2,\)"):
        call(lambda x: {"y": x}, {"y": jnp.zeros(2)}, jnp.zeros(3))


def test_one_export_holds_the_kernel_for_cuda_and_runs_on_a_cpu():
    arguments = short_scan()
    function = jax.jit(lambda arrays: s6_scan(**arrays))
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in EXPORTABLE]
    exported = export.export(function, platforms=("cpu", "cuda"), disabled_checks=allowed)(arguments)
    assert TRITON in exported.mlir_module()
    expected = s6_scan(**arguments, implementation="xla")
    np.testing.assert_allclose(exported.call(arguments), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    jax.__version_info__ >= (0, 11), reason="jax 0.11 lowers kernels for CUDA under a mesh of GPUs only"
)
def test_a_mesh_of_two_devices_needs_no_collective_forward_and_one_reduction_backward():
    """Compiled in a process of its own, whose CPU is two devices."""
    program = f"""
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from m3sr_kernels import s6_scan
from m3sr_kernels.s6_scan.shapes import Shape

mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
arrays = {{name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in Shape(8, 4, 62).arguments.items()}}
specs = {{name: P("data") if array.ndim == 3 else P() for name, array in arrays.items()}}
local = lambda arrays: s6_scan(**arrays, implementation="pallas_triton")
scan = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=P("data"), check_vma=False)
lower = lambda f: jax.jit(f).trace(arrays).lower(lowering_platforms=("cuda",)).as_text()
count = lambda text: [text.count("stablehlo." + name) for name in
                      ("all_gather", "all_to_all", "collective_permute", "all_reduce")]
forward, gradient = count(lower(scan)), count(lower(jax.grad(lambda arrays: jnp.sum(scan(arrays)))))
assert {TRITON!r} in lower(scan) and forward == [0, 0, 0, 0], forward
assert gradient == [0, 0, 0, 3], gradient  # of a, d and dt_bias; XLA's combiner makes them one
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | flags)
