"""What the Mosaic GPU kernels share: one launch over a row of programs, lanes, and a gradient taken from elsewhere.

Mosaic GPU moves multiples of 128 elements and neither masks nor gathers. So a kernel here lays 128 independent
recurrences side by side, one a thread, along the last axis of every array that it moves: that axis alone is padded, and
whatever stands before it is indexed by numbers. XLA lays the arrays out so before and after.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall

LANES = 128  # of a program: a warpgroup


def implementation_of(forward: Callable, gradient_of: Callable) -> Callable:
    """An op's implementation: `forward(interpret, *arrays)` on the GPU, with the gradient of `gradient_of(*arrays)`.

    It takes the op's arguments by position and `call`, and raises `NotImplementedError` where one is float64.
    """

    def run(*arrays: jax.Array | None, call: GpuCall) -> Any:
        if accumulation_dtype(*arrays) != jnp.float32:
            raise NotImplementedError(
                f"{call.op}: 'pallas_mosaic' computes in float32, got an argument in float64; use 'pallas_triton' or "
                "'xla'"
            )
        return _run(call, forward, gradient_of, *arrays)

    return run


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(call: GpuCall, forward: Callable, gradient_of: Callable, *arrays: jax.Array | None) -> Any:
    del gradient_of
    return call(functools.partial(forward, call.interpret), *arrays)


def _fwd(call: GpuCall, forward: Callable, gradient_of: Callable, *arrays):
    return _run(call, forward, gradient_of, *arrays), arrays


def _bwd(call: GpuCall, forward: Callable, gradient_of: Callable, arrays, cotangents):
    del call, forward
    return jax.vjp(gradient_of, *arrays)[1](cotangents)


_run.defvjp(_fwd, _bwd)


def launch(
    name: str,
    kernel: Callable[[Any, dict[str, Any]], None],
    inputs: Mapping[str, jax.Array],
    outputs: Mapping[str, tuple[tuple[int, ...], Any]],
    programs: int,
    *,
    interpret: bool,
) -> dict[str, jax.Array]:
    """Runs `kernel(program, references by name)` for each program.

    Args:
      name: of the kernel, for profiles.
      kernel: reads inputs and writes outputs through their references.
      inputs: arrays by name.
      outputs: shape and dtype by name.
      programs: how many; one axis, since the second of a grid ends at 65,535.
      interpret: runs on a CPU, slowly.

    Returns:
      The arrays of `outputs`.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu  # a second to import, and nobody else's

    def body(*refs: Any) -> None:
        kernel(jax.lax.axis_index("programs"), dict(zip([*inputs, *outputs], refs, strict=True)))

    # Under the name that this version of jax has for it.
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
        interpret=_interpreter() if interpret else None,
    )
    return dict(zip(outputs, run(*inputs.values()), strict=True))


def _interpreter() -> Any:
    """What runs such a kernel on a CPU; jax has not made it public yet."""
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams()


def pad_lanes(array: jax.Array) -> jax.Array:
    """Zeros behind the last axis, up to whole programs."""
    return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % LANES)])


def divide(dividend: jax.Array, divisor: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder of numbers that are not negative."""
    quotient = jax.lax.div(dividend, jnp.int32(divisor))
    return quotient, dividend - quotient * divisor
