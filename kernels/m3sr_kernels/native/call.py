"""A JAX primitive that is a compiled kernel on a CPU, and XLA code on every other platform and in exported programs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from m3sr_kernels.native.compiler import load

_log = logging.getLogger(__name__)
HOW_TO_GET_IT = "pip install llvmlite"


@functools.cache
def unavailable() -> str | None:
    """Why no kernel can be compiled and called in this process; None if one can."""
    from m3sr_kernels.native.target import SUPPORTED

    try:
        import llvmlite.binding  # noqa: F401
    except Exception as error:
        return f"llvmlite cannot be imported ({error}); {HOW_TO_GET_IT}"
    try:
        from m3sr_kernels.native import ffi, target
        from m3sr_kernels.native.probe import PROBE

        if target.host().triple.split("-")[0] not in SUPPORTED:
            return f"there are no kernels for the processor {target.host().triple}"
        register("m3sr_probe", functools.partial(ffi.add_handler, name="m3sr_probe", kernel=PROBE))
    except Exception as error:
        return f"a kernel could not be compiled and registered with XLA ({error})"
    return None


_targets: set[str] = set()


def register(name: str, build: Callable) -> None:
    """Compiles or loads the handler `name` and makes it known to XLA; once a process.

    Raises:
      RuntimeError: XLA refuses it, as when the versions of its interface differ.
    """
    if name not in _targets:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(load(name, build)), platform="cpu")
        _targets.add(name)


def native_call(kernel: Callable, fallback: Callable, *arrays: jax.Array) -> list[jax.Array]:
    """Calls `kernel(*arrays)` where the program is compiled for a CPU, else `fallback(*arrays)`: lists of arrays alike.

    Both are functions of a module, so that programs that call them are found in JAX's caches.
    """
    return _native_p.bind(*arrays, kernel=kernel, fallback=fallback)


_native_p = Primitive("m3sr_native")
_native_p.multiple_results = True


@_native_p.def_abstract_eval
def _abstract_eval(*avals, kernel, fallback):
    del kernel
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    return [jax.core.ShapedArray(out.shape, out.dtype) for out in jax.eval_shape(fallback, *shapes)]


@functools.partial(jax.jit, static_argnames=("kernel", "fallback"))
def _run(*arrays, kernel, fallback):
    return _native_p.bind(*arrays, kernel=kernel, fallback=fallback)


_native_p.def_impl(_run)


def _lower_elsewhere(ctx, *operands, kernel, fallback):
    del kernel
    return mlir.lower_fun(fallback, multiple_results=True)(ctx, *operands)


def _lower_on_cpu(ctx, *operands, kernel, fallback):
    """An exported program runs in processes that do not have the kernel."""
    parameters = getattr(ctx.module_context, "lowering_parameters", None)
    function = fallback if getattr(parameters, "for_export", False) else kernel
    return mlir.lower_fun(function, multiple_results=True)(ctx, *operands)


def _batch(arguments, dimensions, *, kernel, fallback):
    mapped = (jax.vmap(function, in_axes=tuple(dimensions)) for function in (kernel, fallback))
    results = native_call(*mapped, *arguments)
    return results, [0] * len(results)


mlir.register_lowering(_native_p, _lower_elsewhere)
mlir.register_lowering(_native_p, _lower_on_cpu, platform="cpu")
batching.primitive_batchers[_native_p] = _batch


def ffi_call(name: str, results: list[tuple[int, ...]], *arrays: jax.Array) -> list[jax.Array]:
    """Calls a registered handler of float32 arrays; results are float32 of these shapes. Mapped axes run in turn."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in results]
    return list(jax.ffi.ffi_call(name, shapes, vmap_method="sequential")(*arrays))


def log_once(key: Any, message: str, *arguments: Any) -> None:
    """Logs at INFO, the first time that the key is seen."""
    if key not in _logged:
        _logged.add(key)
        _log.info(message, *arguments)


_logged: set[Any] = set()
