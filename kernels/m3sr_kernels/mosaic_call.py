"""What the Mosaic GPU kernels share: a launch over a row of programs, and an implementation made of two functions.

Mosaic GPU moves multiples of 128 elements and can neither mask nor gather. So each kernel runs 128 independent
recurrences side by side, one a thread, along the last axis of every array. Only that axis is padded; the axes before it
are indexed by scalars. XLA rearranges the arrays before and after.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall, UnsupportedArgumentsError, like

LANES = 128  # threads of a program, one warpgroup

Arrays = tuple[Any, ...]  # an op's arguments; None is one left out


def with_gradient(forward: Callable, backward: Callable[[bool, Arrays, Any], Arrays]) -> Callable:
    """Makes an op's implementation of two functions for the GPU, both with kernels.

    It takes the op's arguments by position and `call`; it raises `UnsupportedArgumentsError` if one is float64.

    Args:
      forward: `forward(interpret, *arrays)`.
      backward: the cotangents of the arguments, in their dtypes, from the arguments and the cotangents of the results.
    """

    def run(*arrays: jax.Array | None, call: GpuCall) -> Any:
        if accumulation_dtype(*arrays) != jnp.float32:
            raise UnsupportedArgumentsError(
                f"{call.op}: 'pallas_mosaic' computes in float32, got an argument in float64; use 'pallas_triton' or "
                "'xla'"
            )
        return _run(call, forward, backward, *arrays)

    return run


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(call: GpuCall, forward: Callable, backward: Callable, *arrays: jax.Array | None) -> Any:
    del backward
    run = functools.partial(forward, call.interpret)
    return call(run, jax.eval_shape(run, *arrays), *arrays)


def _fwd(call: GpuCall, forward: Callable, backward: Callable, *arrays):
    return _run(call, forward, backward, *arrays), arrays


def _bwd(call: GpuCall, forward: Callable, backward: Callable, arrays, cotangents):
    del forward
    return call(functools.partial(backward, call.interpret), like(arrays), arrays, cotangents)


_run.defvjp(_fwd, _bwd)


def launch(
    name: str,
    kernel: Callable[[Any, dict[str, Any]], None],
    inputs: Mapping[str, jax.Array],
    outputs: Mapping[str, tuple[tuple[int, ...], Any]],
    programs: int,
    *,
    interpret: bool,
    fast_exponentials: bool = False,
) -> dict[str, jax.Array]:
    """Runs `kernel(number of the program, references by name)` for each program.

    Args:
      name: name of the kernel, for profiles.
      kernel: reads inputs and writes outputs through their references.
      inputs: arrays by name.
      outputs: shape and dtype by name.
      programs: number of programs. The grid has one axis, because the second one ends at 65,535.
      interpret: runs on a CPU, slowly.
      fast_exponentials: 2ˣ is one instruction, as good as in the Triton kernels. It costs logarithms their digits.

    Returns:
      The arrays of `outputs`.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu  # takes a second to import

    def body(*refs: Any) -> None:
        kernel(jax.lax.axis_index("programs"), dict(zip([*inputs, *outputs], refs, strict=True)))

    # jax has renamed this argument.
    name_of_outputs = "out_type" if "out_type" in inspect.signature(plgpu.kernel).parameters else "out_shape"
    returned: dict[str, Any] = {
        name_of_outputs: [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in outputs.values()]
    }
    run = plgpu.kernel(
        body,
        **returned,
        grid=(programs,),
        grid_names=("programs",),
        kernel_name=name,
        # A thread reads nothing that another one writes, so the two barriers around every store are not needed.
        compiler_params=plgpu.CompilerParams(approx_math=fast_exponentials, unsafe_no_auto_barriers=True),
        interpret=_interpreter() if interpret else None,
    )
    return dict(zip(outputs, run(*inputs.values()), strict=True))


def _interpreter() -> Any:
    """Runs a kernel on a CPU; jax has not made it public yet."""
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams()


def lanes_last(array: jax.Array) -> jax.Array:
    """(M, …) to (…, M), with zeros at the end to whole programs."""
    return jnp.moveaxis(_pad_lanes(array), 0, -1)


def to_lanes(array: jax.Array) -> jax.Array:
    """(M, …) to (blocks, …, 128): blocks of sequences side by side, with zeros at the end of the last one."""
    return jnp.moveaxis(_pad_lanes(array).reshape(-1, LANES, *array.shape[1:]), 1, -1)


def _pad_lanes(array: jax.Array) -> jax.Array:
    """Pads before the axes move: XLA then does both at once."""
    return jnp.pad(array, [(0, -array.shape[0] % LANES)] + [(0, 0)] * (array.ndim - 1))


def from_lanes(array: jax.Array, size: int) -> jax.Array:
    """The inverse of `to_lanes` for so many sequences."""
    array = jnp.moveaxis(array, -1, 1)
    return array.reshape(-1, *array.shape[2:])[:size]


def multiply(left: list[jax.Array], right: list[jax.Array]) -> list[jax.Array]:
    """Of tokens or pixels that a kernel holds in registers, one by one."""
    return [a * b for a, b in zip(left, right, strict=True)]


def add(left: list[jax.Array], right: list[jax.Array]) -> list[jax.Array]:
    """Likewise."""
    return [a + b for a, b in zip(left, right, strict=True)]
