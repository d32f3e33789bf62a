"""A JAX primitive that is a compiled kernel on a CPU, and XLA code on every other platform and in exported programs."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
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


def refusal(op: str, arguments: Any) -> str | None:
    """Why the kernels cannot take these arguments of an op; None if they can. The one rule that all ops share.

    What else an op's kernels do not take, its own module says in `unsupported`.
    """
    arrays = jax.tree.leaves(arguments)
    strange = sorted({str(array.dtype) for array in arrays} - {"float32", "bfloat16"})
    if strange:
        return f"the kernels compute in float32, and an argument is {strange[0]}"
    if not all(isinstance(size, int) for array in arrays for size in array.shape):
        return "the kernels are not for symbolic sizes"
    if not all(array.size for array in arrays):
        return "an argument is empty"
    module = importlib.import_module(f"m3sr_kernels.{op}.native")
    return module.unsupported(*arguments) or unavailable()


def best_on_cpu(op: str, native: Callable, xla: Callable, *arguments: Any) -> Any:
    """Runs `native` if its kernels take the arguments, else `xla`; logs once which and why."""
    reason = refusal(op, arguments)
    if reason is None:
        _log_once(op, logging.INFO, "%s: compiled kernels on a CPU", op)
        return native(*arguments, strict=False)
    level = logging.WARNING if reason == unavailable() else logging.INFO
    _log_once((op, reason), level, "%s: XLA code instead of compiled kernels on a CPU: %s", op, reason)
    return xla(*arguments)


def only_native(op: str, native: Callable, *arguments: Any) -> Any:
    """Runs `native`.

    Raises:
      NotImplementedError: its kernels do not take the arguments, or (at lowering) the platform is not a CPU.
    """
    reason = refusal(op, arguments)
    if reason is not None:
        raise NotImplementedError(f"{op}: implementation 'native' cannot run: {reason}; use 'xla', or None to choose")
    return native(*arguments, strict=True)


def native_call(
    kernel: Callable, fallback: Callable, shapes: Sequence[tuple[int, ...]], *arrays: jax.Array, strict: bool
) -> list[jax.Array]:
    """Calls `kernel(*arrays)` where the program is compiled for a CPU, else `fallback(*arrays)`.

    Args:
      kernel: a function of a module, so that programs that call it are found in JAX's caches; returns a list of arrays.
      fallback: the same in plain JAX.
      shapes: of the results, which are float32.
      arrays: arguments of both.
      strict: raises `NotImplementedError` at lowering where `fallback` would be taken.
    """
    return _native_p.bind(*arrays, kernel=kernel, fallback=fallback, shapes=tuple(shapes), strict=strict)


_native_p = Primitive("m3sr_native")
_native_p.multiple_results = True


@_native_p.def_abstract_eval
def _abstract_eval(*avals, shapes, **how):
    del avals, how
    return [ShapedArray(shape, jnp.dtype(jnp.float32)) for shape in shapes]


@functools.partial(jax.jit, static_argnames=("kernel", "fallback", "shapes", "strict"))
def _run(*arrays, **how):
    return _native_p.bind(*arrays, **how)


_native_p.def_impl(_run)


def _lower_elsewhere(ctx, *operands, kernel, fallback, shapes, strict):
    del kernel, shapes
    if strict:
        platforms = ", ".join(ctx.platforms or ctx.module_context.platforms)
        raise NotImplementedError(
            f"implementation 'native' is code for a CPU, but was to be compiled for {platforms} or exported; use "
            "implementation='xla', or None to choose"
        )
    return mlir.lower_fun(fallback, multiple_results=True)(ctx, *operands)


def _lower_on_cpu(ctx, *operands, kernel, **how):
    """An exported program runs in processes that do not have the kernel."""
    if getattr(getattr(ctx.module_context, "lowering_parameters", None), "for_export", False):
        return _lower_elsewhere(ctx, *operands, kernel=kernel, **how)
    return mlir.lower_fun(kernel, multiple_results=True)(ctx, *operands)


def _batch(arguments, dimensions, *, kernel, fallback, shapes, strict):
    size = next(array.shape[axis] for array, axis in zip(arguments, dimensions, strict=True) if axis is not None)
    over_axis = functools.partial(jax.vmap, in_axes=tuple(dimensions))
    results = native_call(
        over_axis(kernel), over_axis(fallback), [(size, *shape) for shape in shapes], *arguments, strict=strict
    )
    return results, [0] * len(results)


mlir.register_lowering(_native_p, _lower_elsewhere)
mlir.register_lowering(_native_p, _lower_on_cpu, platform="cpu")
batching.primitive_batchers[_native_p] = _batch


def ffi_call(
    op: str, which: str, sizes: Sequence[int | float], results: Sequence[tuple[int, ...]], *arrays: jax.Array
) -> list[jax.Array]:
    """Calls a kernel of an op. Mapped axes run in turn.

    Args:
      op: its folder.
      which: "forward" or "backward".
      sizes: numbers that are compiled in, as the kernel's class takes them.
      results: shapes of the results, which are float32.
      arrays: arguments, float32.
    """
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in results]
    return list(jax.ffi.ffi_call(_handler(op, which, *sizes), shapes, vmap_method="sequential")(*arrays))


@functools.cache
def _handler(op: str, which: str, *sizes: int | float) -> str:
    """The name of a kernel's handler, which XLA knows from now on."""
    from m3sr_kernels.native.ffi import add_handler

    module = importlib.import_module(f"m3sr_kernels.{op}.native_{which}")
    name = "_".join(map(str, ("m3sr", op, which, *sizes)))
    kernel = getattr(module, which.capitalize())(*sizes)
    register(name, functools.partial(add_handler, name=name, kernel=kernel))
    return name


def _log_once(key: Any, level: int, message: str, *arguments: Any) -> None:
    if key not in _logged:
        _logged.add(key)
        _log.log(level, message, *arguments)


_logged: set[Any] = set()
