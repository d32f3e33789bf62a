"""Chooses an implementation of an op: by name, or the best one for the platform that the program is compiled for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Container, Mapping
from typing import Any, Literal, get_args

import jax

from m3sr_kernels.gpu_call import (
    MIN_CAPABILITY,
    GpuCall,
    UnsupportedArgumentsError,
    gpu_capability,
    importable,
    local_gpus_run,
)
from m3sr_kernels.native.call import best_on_cpu, only_native, unavailable

# pallas_triton  GPU kernels for CUDA, sm_80 and newer
# pallas_mosaic  GPU kernels for CUDA, sm_90 and newer
# native         kernels compiled for this CPU by llvmlite when they are first used
# xla            array operations that XLA compiles well, on any platform
# associative    `lax.associative_scan`; holds every state in memory
# reference      the definition, a plain loop over time
Implementation = Literal["pallas_triton", "pallas_mosaic", "native", "xla", "associative", "reference"]
NAMES: tuple[Implementation, ...] = get_args(Implementation)
BEST_ON_CUDA: tuple[Implementation, ...] = ("pallas_triton", "pallas_mosaic")  # the first that jax has and a GPU runs
BEST_ON_CPU: Implementation = "native"


def choose(
    op: str, implementations: Mapping[str, Callable], implementation: Implementation | None, *, interpret: bool = False
) -> Callable:
    """Returns the function that implements `op`.

    Args:
      op: name of the op, for messages.
      implementations: the op's functions by name, "xla" and "reference" among them. All take the same positional
        arguments; those of Pallas also take `call`, a `GpuCall`, the native one `strict`.
      implementation: one of `NAMES`, or None for the best. None is settled when the program is compiled, for each of
        its platforms separately if it has several (`jax.export`); see `resolve`.
      interpret: runs a Pallas implementation on any platform, slowly; ignored by the others.

    Raises:
      ValueError: the name is not one of `NAMES`.
      NotImplementedError: the op has no such implementation. A Pallas one raises it when it is compiled for a platform
        that cannot run it; see `GpuCall`. A named implementation is never replaced by another.
    """
    if implementation is None:
        elsewhere = implementations["xla"]
        if BEST_ON_CPU in implementations:
            elsewhere = functools.partial(best_on_cpu, op, implementations[BEST_ON_CPU], elsewhere)
        best = best_on_cuda(implementations)
        if best is not None:
            kernels = functools.partial(implementations[best], call=GpuCall(op, best, automatic=True))
            kernels = functools.partial(_first_or, kernels, elsewhere)
            elsewhere = functools.partial(_by_platform, kernels, elsewhere)
        return functools.partial(_unless_empty, elsewhere, implementations["reference"])
    if implementation not in NAMES:
        raise ValueError(f"{op}: unknown implementation {implementation!r}; expected None or one of {', '.join(NAMES)}")
    if implementation not in implementations:
        raise NotImplementedError(f"{op} has no {implementation!r} implementation; it has {', '.join(implementations)}")
    function = implementations[implementation]
    if implementation == BEST_ON_CPU:
        return functools.partial(only_native, op, function)
    if implementation in MIN_CAPABILITY:
        function = functools.partial(function, call=GpuCall(op, implementation, interpret=interpret))
    return function


def best_on_cuda(implementations: Container[Any] = BEST_ON_CUDA) -> Implementation | None:
    """The kernels that None means on CUDA; None if there are none that jax has and the GPU runs.

    A GPU that nothing tells anything about counts as the oldest that Triton's kernels run on.
    """
    capability = gpu_capability() or MIN_CAPABILITY["pallas_triton"]
    for name in BEST_ON_CUDA:
        if name in implementations and capability >= MIN_CAPABILITY[name] and importable(name):
            return name
    return None


def _unless_empty(best: Callable, reference: Callable, *arguments):
    """Calls the plain loop for arrays without numbers, such as an empty batch, which nothing else takes."""
    sizes = [size for array in jax.tree.leaves(arguments) for size in array.shape]
    empty = any(isinstance(size, int) and size == 0 for size in sizes)
    return (reference if empty else best)(*arguments)


def _first_or(kernels: Callable, elsewhere: Callable, *arguments):
    try:
        return kernels(*arguments)
    except UnsupportedArgumentsError:
        return elsewhere(*arguments)


def _by_platform(on_cuda: Callable, elsewhere: Callable, *arguments):
    return jax.lax.platform_dependent(*arguments, cuda=on_cuda, default=elsewhere)


def imported_on_call(module: str, name: str) -> Callable:
    """Function `name` of a module that is first imported when the function is called.

    GPU backends are slow to import, and jax may drop one.
    """

    def call(*arguments, **options):
        return getattr(importlib.import_module(module), name)(*arguments, **options)

    return call


def resolve(implementation: Implementation | None, platform: str) -> Implementation:
    """Names the implementation that runs on a platform ("cpu", "gpu", "tpu"), given the GPUs of this machine.

    An op without the best one uses "xla".

    Raises:
      NotImplementedError: the platform or its GPUs cannot run the implementation asked for.
    """
    on_cuda = platform in ("gpu", "cuda")
    if implementation is None:
        if platform == "cpu":
            return "xla" if unavailable() else BEST_ON_CPU
        return (on_cuda and best_on_cuda()) or "xla"
    if implementation == BEST_ON_CPU and platform != "cpu":
        raise NotImplementedError(f"'native' is code for a CPU, and the computation runs on {platform}; leave it unset")
    if implementation == BEST_ON_CPU and unavailable():
        raise NotImplementedError(f"'native' cannot run: {unavailable()}")
    if implementation in MIN_CAPABILITY and not importable(implementation):
        raise NotImplementedError(f"{implementation!r} is not part of jax {jax.__version__}; leave it unset")
    capability = MIN_CAPABILITY.get(implementation)
    if capability is not None and not (on_cuda and local_gpus_run(implementation)):
        needs = f"{implementation!r} needs CUDA GPUs of compute capability {capability} or newer"
        raise NotImplementedError(
            f"{needs}, and the computation runs on {platform}; leave it unset for the best choice"
        )
    return implementation
