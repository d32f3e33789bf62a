"""Makes every Pallas launch of a program run as compiled PTX on the CPU, whatever the kernel."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import m3sr_kernels.tiles
import numpy as np
from jax._src.pallas import mpmd, pallas_call
from jax.interpreters import mlir
from m3sr_kernels import gpu_call

from tools.ptx.compiler import compile_launch
from tools.ptx.execute import Launch, execute
from tools.ptx.report import Report
from tools.ptx.scheduler import Order


@dataclasses.dataclass(frozen=True)
class Execution:
    """A launch that ran: with its inputs, its outputs and the checker's report."""

    launch: Launch
    arrays: list[np.ndarray]
    outputs: list[np.ndarray]
    report: Report


@dataclasses.dataclass
class _Session:
    """Settings of the launches in progress, and what ran."""

    gpu: str
    order: Order
    noise: float
    done: list[Execution]
    compiled: list[Launch]


_session: _Session | None = None


@contextlib.contextmanager
def executed_launches(
    gpu: str = "NVIDIA H200", *, order: Order = "together", noise: float = 0.0
) -> Iterator[list[Execution]]:
    """Programs that run inside execute their Pallas launches as PTX; yields the list of them.

    The work between launches runs on the CPU.

    Args:
      gpu: compiled for, a key of `tools.gpu_target.DEVICES`; tile sizes are those of this device.
      order: see `tools.ptx.execute.execute`.
      noise: the same.
    """
    with _started(_Session(gpu, order, noise, [], [])) as session:
        yield session.done


def compiled_launches(function: Any, *arguments: Any, gpu: str = "NVIDIA H200") -> list[Launch]:
    """The launches of a jitted function, compiled and not run; arguments may be `jax.ShapeDtypeStruct`."""
    with _started(_Session(gpu, "together", 0.0, [], [])) as session:
        jax.jit(function).lower(*arguments)
        return session.compiled


@contextlib.contextmanager
def _started(session: _Session) -> Iterator[_Session]:
    global _session
    jax.clear_caches()  # what was compiled for other settings
    with mock.patch.object(m3sr_kernels.tiles, "_local_kind", return_value=session.gpu):
        _session = session
        try:
            yield session
        finally:
            _session = None
            jax.clear_caches()


def _lowering(primitive: Any, usual: Any) -> Any:
    """A rule that lowers a launch on the CPU to a call of the interpreter."""

    def lower(ctx: Any, *operands: Any, **parameters: Any):
        session = _session
        if session is None or parameters["interpret"]:
            return usual(ctx, *operands, **parameters)
        outputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in ctx.avals_out]
        launch = compile_launch(
            lambda *arrays: primitive.bind(*arrays, **parameters),
            parameters["name"],
            ctx.avals_in,
            outputs,
            dict(parameters["input_output_aliases"]),
            session.gpu,
        )
        session.compiled.append(launch)
        call = lambda *arrays: jax.pure_callback(_runner(launch, session), outputs, *arrays)  # noqa: E731
        return mlir.lower_fun(call, multiple_results=True)(ctx, *operands)

    return lower


def _lower_gpu_call(ctx: Any, *operands: Any, function: Any, **parameters: Any):
    """Lowers what is meant for CUDA alone, its launches included, on the CPU."""
    if _session is None:
        return gpu_call._lower_elsewhere(ctx, *operands, function=function, **parameters)
    return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)


def _runner(launch: Launch, session: _Session) -> Any:
    def run(*arrays: Any) -> list[np.ndarray]:
        inputs = [np.asarray(array) for array in arrays]
        outputs, report = execute(launch, inputs, order=session.order, noise=session.noise)
        session.done.append(Execution(launch, inputs, outputs, report))
        return outputs

    return run


mlir.register_lowering(
    pallas_call.pallas_call_p, _lowering(pallas_call.pallas_call_p, pallas_call._pallas_call_lowering), platform="cpu"
)
mlir.register_lowering(mpmd.mpmd_map_p, _lowering(mpmd.mpmd_map_p, mpmd._mpmd_map_lowering), platform="cpu")
mlir.register_lowering(gpu_call._gpu_call_p, _lower_gpu_call, platform="cpu")
