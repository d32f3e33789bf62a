"""A call of a Pallas kernel that knows which platform it is lowered for.

JAX lowers or rejects a `pallas_call` when it compiles the program around it, with messages of its own. `GpuCall` is
lowered at the same time: for CUDA it becomes the kernel, for any other platform it raises `NotImplementedError` with
the reason, whatever devices the machine has. So a machine without a GPU can lower a program for CUDA, and a program for
a CPU never traces a kernel: those of M3SR's training step take seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

MIN_CAPABILITY = {"pallas_triton": 8.0, "pallas_mosaic": 9.0}
BACKENDS = {"pallas_triton": "jax.experimental.pallas.triton", "pallas_mosaic": "jax.experimental.pallas.mosaic_gpu"}
# What the name of a GPU tells: older than Ampere, or Hopper and newer.
_CAPABILITY_OF_NAME = {r"GTX|TITAN|Quadro|RTX 20[5-8]0|Tesla|V100|\b[KMPT]\d": 7.5, r"\bG?[HB][1-9]\d": 9.0}


class UnsupportedArgumentsError(NotImplementedError):
    """The kernels do not take these arguments; `implementation=None` then takes another implementation."""


@dataclasses.dataclass(frozen=True)
class GpuCall:
    """Calls an op's kernels.

    Attributes:
      op: public name of the op, for messages.
      implementation: "pallas_triton" or "pallas_mosaic".
      interpret: interprets the kernels, slowly, on any platform.
      automatic: `implementation=None` chose the kernels for CUDA. A program for several platforms then has a branch for
        the others that never runs, and returns NaN instead of raising.
    """

    op: str
    implementation: str
    interpret: bool = False
    automatic: bool = False

    def __call__(self, function: Callable, results: Any, *arguments: Any) -> Any:
        """Returns `function(*arguments)`, which launches kernels and prepares their arrays.

        Args:
          function: traced when it is lowered for CUDA.
          results: the shapes and dtypes that it returns, in any tree.
          *arguments: trees of arrays.

        Raises:
          NotImplementedError: at lowering (outside of jit, at once), for a platform other than CUDA or a GPU that is
            too old.
          TypeError: likewise, if `function` returns something else than `results`.
        """
        leaves, tree = jax.tree.flatten(arguments)
        specs, structure = jax.tree.flatten(like(results))

        def flat(*leaves):
            returned, found = jax.tree.flatten(function(*tree.unflatten(leaves)))
            if found != structure or like(returned) != specs:
                raise TypeError(f"{self.op}: kernels return {like(returned)} in {found}, not {specs} in {structure}")
            return returned

        if self.interpret:
            return structure.unflatten(flat(*leaves))
        return structure.unflatten(_gpu_call_p.bind(*leaves, function=flat, specs=tuple(specs), call=self))


def like(arrays: Any) -> Any:
    """The shapes and dtypes of a tree of arrays."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays)


def local_gpus_run(implementation: str) -> bool:
    """Whether the GPUs of `gpu_capability` are new enough; True if they are unknown."""
    capability = gpu_capability()
    return capability is None or capability >= MIN_CAPABILITY[implementation]


def gpu_capability() -> float | None:
    """The compute capability of the oldest local GPU or, without one, of the GPU that the program is compiled for.

    The name of that GPU is in the abstract mesh in use, if the caller has set one; None if nothing tells. A name tells
    no more than "7.5 or older" and "9.0 or newer".
    """
    try:
        return min(map(_capability, jax.local_devices(backend="gpu")))
    except RuntimeError:
        described = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    name = described.device_kind if described else ""
    return next((capability for names, capability in _CAPABILITY_OF_NAME.items() if re.search(names, name)), None)


@functools.cache
def importable(implementation: str) -> bool:
    """Whether jax has the backend of a Pallas implementation."""
    try:
        importlib.import_module(BACKENDS[implementation])
    except ImportError:
        return False
    return True


def _capability(device: Any) -> float:
    """The CUDA compute capability; 0 for an AMD device, which reports the name of its architecture instead."""
    try:
        return float(device.compute_capability)
    except ValueError:
        return 0.0


_gpu_call_p = Primitive("m3sr_gpu_call")
_gpu_call_p.multiple_results = True


@_gpu_call_p.def_abstract_eval
def _abstract_eval(*avals, specs, **how):
    del avals, how
    return [ShapedArray(spec.shape, spec.dtype) for spec in specs]


@_gpu_call_p.def_impl
def _run(*arguments, **parameters):
    return jax.jit(functools.partial(_gpu_call_p.bind, **parameters))(*arguments)


def _lower_for_cuda(ctx, *operands, function, specs, call):
    del specs
    if not local_gpus_run(call.implementation):
        raise NotImplementedError(
            f"{call.op}: implementation {call.implementation!r} needs a GPU of compute capability "
            f"{MIN_CAPABILITY[call.implementation]} or newer; use implementation='xla', or None for the best choice"
        )
    ctx = ctx.replace(module_context=ctx.module_context.replace(platforms=("cuda",)))
    with _lowering_device(), warnings.catch_warnings():  # jax 0.11 still compiles Triton kernels
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)


def _lowering_device() -> contextlib.AbstractContextManager:
    """Without a GPU, jax 0.11 lowers kernels only for a device it is told about; any GPU will do.

    A mesh in use has to name one itself, as its `abstract_device`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if jax.default_backend() == "gpu" or not mesh.empty or jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    return jax.sharding.use_abstract_mesh(mesh.update(abstract_device=device))


def _lower_elsewhere(ctx, *operands, function, specs, call):
    del function, specs
    if call.automatic:
        fill = lambda *_: [jnp.full(aval.shape, jnp.nan, aval.dtype) for aval in ctx.avals_out]  # noqa: E731
        return mlir.lower_fun(fill, multiple_results=True)(ctx, *operands)
    platforms = ", ".join(ctx.platforms or ctx.module_context.platforms)
    raise NotImplementedError(
        f"{call.op}: implementation {call.implementation!r} is for CUDA GPUs but is being compiled for {platforms}; "
        "use implementation='xla', None for the best choice, or interpret=True to run it slowly on any platform"
    )


def _batch(arguments, dimensions, *, function, specs, call):
    """Maps the kernel itself: for `pallas_call` the new axis is one more axis of its grid."""
    size = next(array.shape[axis] for array, axis in zip(arguments, dimensions, strict=True) if axis is not None)
    mapped = jax.vmap(function, in_axes=tuple(dimensions))
    specs = tuple(jax.ShapeDtypeStruct((size, *spec.shape), spec.dtype) for spec in specs)
    results = _gpu_call_p.bind(*arguments, function=mapped, specs=specs, call=call)
    return results, [0] * len(results)


mlir.register_lowering(_gpu_call_p, _lower_elsewhere)
mlir.register_lowering(_gpu_call_p, _lower_for_cuda, platform="cuda")
batching.primitive_batchers[_gpu_call_p] = _batch
