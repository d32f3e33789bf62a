"""The GPU kernels are lowered for CUDA on a machine without a GPU, and refused for other platforms."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from m3sr_kernels import mamba_token_mix, s6_scan
from m3sr_kernels.dispatch import resolve
from m3sr_kernels.mamba_token_mix.shapes import SHAPES as BLOCKS
from m3sr_kernels.s6_scan.shapes import SHAPES as SCANS
from m3sr_kernels.s6_scan.shapes import Shape

OPS = {"s6_scan": (s6_scan, SCANS), "mamba_token_mix": (mamba_token_mix, BLOCKS)}
KERNEL = "triton"  # in the name of the custom call that holds a kernel
# XLA's own, and the call of a kernel by its names in jax 0.10 and 0.11.
EXPORTABLE = ("LayoutConstraint", "__gpu$xla.gpu.triton", "triton_kernel_call_ffi")
CASES = [(op, name) for op, (_, shapes) in OPS.items() for name in shapes]


def abstract(shape, dtype=jnp.float32):
    """Arguments of these sizes; parameters, which have no batch axis, are float32."""

    def array(size):
        return jax.ShapeDtypeStruct(size, dtype if size[0] == shape.batch else jnp.float32)

    return jax.tree.map(array, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))


def objective(op, **how):
    return lambda arguments: jnp.sum(jnp.sin(op(**arguments, **how).astype(jnp.float32)))


def lower_for_cuda(function, *arguments) -> str:
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def small_arguments():
    shapes = Shape(6, 4, 5, 3).arguments
    keys = jax.random.split(jax.random.key(0), len(shapes))
    arrays = {name: jax.random.normal(key, size) for key, (name, size) in zip(keys, shapes.items(), strict=True)}
    return arrays | {"a": -jnp.exp(arrays["a"])}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_forward_and_gradient_lower_at_the_model_shapes(name, case):
    op, shapes = OPS[name]
    arguments = abstract(shapes[case], jnp.bfloat16 if case.startswith("training") else jnp.float32)
    text = lower_for_cuda(jax.value_and_grad(objective(op, implementation="pallas_triton")), arguments)
    # Forward and backward of the scan, and of the block's convolution.
    assert text.count(KERNEL) >= {"s6_scan": 2, "mamba_token_mix": 4}[name]


def test_a_long_sequence_lowers_in_segments():
    arguments = abstract(Shape(3, 1000, 62))
    assert KERNEL in lower_for_cuda(jax.grad(objective(s6_scan, implementation="pallas_triton")), arguments)


def test_vmap_and_remat_lower():
    arguments = {name: jnp.stack([array] * 2) for name, array in small_arguments().items()}
    kernel = functools.partial(s6_scan, implementation="pallas_triton")
    mapped = jax.grad(lambda arrays: jnp.sum(jax.vmap(jax.checkpoint(lambda one: kernel(**one)))(arrays)))
    assert KERNEL in lower_for_cuda(mapped, arguments)


@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit, jax.grad])
def test_an_explicit_kernel_is_refused_for_a_cpu_with_the_reason(compile_):
    run = compile_(lambda arrays: jnp.sum(s6_scan(**arrays, implementation="pallas_triton")))
    reason = r"s6_scan: .*'pallas_triton'.* compiled for cpu; use .*interpret=True"
    with pytest.raises(NotImplementedError, match=reason):
        run(small_arguments())


def test_none_is_settled_by_the_platform_compiled_for():
    arguments = small_arguments()
    function = jax.grad(objective(s6_scan))
    assert KERNEL in lower_for_cuda(function, arguments)
    assert KERNEL not in jax.jit(function).lower(arguments).as_text()
    assert (resolve(None, "cpu"), resolve(None, "gpu"), resolve("xla", "gpu")) == ("xla", "pallas_triton", "xla")


def test_one_export_holds_the_kernel_for_cuda_and_runs_on_a_cpu():
    arguments = small_arguments()
    function = jax.jit(lambda arrays: s6_scan(**arrays))
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in EXPORTABLE]
    exported = export.export(function, platforms=("cpu", "cuda"), disabled_checks=allowed)(arguments)
    assert KERNEL in exported.mlir_module()
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
assert {KERNEL!r} in lower(scan) and forward == [0, 0, 0, 0], forward
assert gradient == [0, 0, 0, 3], gradient  # of a, d and dt_bias; XLA's combiner makes them one
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | flags)
