"""Choice of an implementation: by name, or the best for the platform that the program is compiled for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax

from m3sr_kernels.gpu_call import MIN_CAPABILITY, GpuCall, local_gpus_run

NAMES = ("pallas_triton", "pallas_mosaic", "xla", "associative", "reference")
BEST_ON_CUDA = "pallas_triton"


def choose(
    op: str, implementations: Mapping[str, Callable], implementation: str | None, *, interpret: bool = False
) -> Callable:
    """Returns the function that implements `op`.

    Args:
      op: name of the op, for messages.
      implementations: what the op has, "xla" among them; functions of the same positional arguments. Those of Pallas
        take `call`, a `GpuCall`, besides.
      implementation: a name of `NAMES`; or None for the best. None is settled when the program is compiled, for each
        of its platforms if it has several (`jax.export`): see `resolve`.
      interpret: a Pallas implementation runs on any platform, slowly; the others ignore it.

    Raises:
      ValueError: the name is none of `NAMES`.
      NotImplementedError: the op has no such implementation; an explicit request never falls back silently. A Pallas
        one on a platform that cannot run it raises the same when it is compiled, see `GpuCall`.
    """
    if implementation is None:
        if BEST_ON_CUDA not in implementations or not local_gpus_run(BEST_ON_CUDA):
            return implementations["xla"]
        kernels = functools.partial(implementations[BEST_ON_CUDA], call=GpuCall(op, BEST_ON_CUDA, automatic=True))
        return functools.partial(_by_platform, kernels, implementations["xla"])
    if implementation not in NAMES:
        raise ValueError(f"{op}: unknown implementation {implementation!r}; expected None or one of {', '.join(NAMES)}")
    if implementation not in implementations:
        raise NotImplementedError(f"{op} has no {implementation!r} implementation; it has {', '.join(implementations)}")
    function = implementations[implementation]
    if implementation in MIN_CAPABILITY:
        function = functools.partial(function, call=GpuCall(op, implementation, interpret=interpret))
    return function


def _by_platform(on_cuda: Callable, elsewhere: Callable, *arguments):
    return jax.lax.platform_dependent(*arguments, cuda=on_cuda, default=elsewhere)


def resolve(implementation: str | None, platform: str) -> str:
    """Names what an `implementation` means on a platform ("cpu", "gpu", "tpu"), given the GPUs of this machine.

    An op that lacks the best one takes "xla".

    Raises:
      NotImplementedError: a Pallas implementation was asked for that the platform or its GPUs cannot run.
    """
    on_cuda = platform in ("gpu", "cuda")
    if implementation is None:
        return BEST_ON_CUDA if on_cuda and local_gpus_run(BEST_ON_CUDA) else "xla"
    capability = MIN_CAPABILITY.get(implementation)
    if capability is not None and not (on_cuda and local_gpus_run(implementation)):
        needs = f"{implementation!r} needs CUDA GPUs of compute capability {capability} or newer"
        raise NotImplementedError(
            f"{needs}, and the computation runs on {platform}; leave it unset for the best choice"
        )
    return implementation
