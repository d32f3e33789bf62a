"""An op's kernels as one differentiable JAX function: what the `native.py` of every op is built on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp

from m3sr_kernels.native.call import native_call
from m3sr_kernels.precision import at_precision, current

MAX_STATES = 64  # of the scans, which unroll them
Arrays = Callable[..., list[jax.Array]]
Shapes = Callable[..., Sequence[tuple[int, ...]]]


def more_states(b: jax.Array) -> str | None:
    """What keeps input maps (…, N) from the kernels of a scan; None if nothing does."""
    return f"more than {MAX_STATES} states" if b.shape[-1] > MAX_STATES else None


def whole_vectors(array: jax.Array, *axes: int, multiple: int = 1) -> jax.Array:
    """Pads axes with zeros to whole vectors of this CPU, and to a multiple of a power of two."""
    from m3sr_kernels.native.target import host

    padded = {axis % array.ndim for axis in axes}
    whole = max(multiple, host().lanes)
    return jnp.pad(array, [(0, -size % whole if axis in padded else 0) for axis, size in enumerate(array.shape)])


def like_the_first(first: jax.Array, *rest: jax.Array) -> list[tuple[int, ...]]:
    """The shapes of an op's results where it has one, like its first argument."""
    del rest
    return [first.shape]


def differentiable(
    forward: Arrays, backward: Arrays, xla: Arrays, shapes: Shapes = like_the_first, *, results: int = 1
) -> Callable[..., Sequence[jax.Array]]:
    """Makes a function of float32 arrays that runs kernels where the program is compiled for a CPU, else XLA code.

    Args:
      forward: results of the arguments; all three are functions of a module, see `native_call`.
      backward: gradients of all arguments, of the arguments followed by a cotangent for each result.
      xla: the same as `forward` in plain JAX, which differentiates it.
      shapes: those of the results, of the arguments.
      results: how many there are.

    Returns:
      `run(strict, *arguments)`, the results; `strict` as in `native_call`. Its gradient keeps the arguments alone, and
      XLA code computes its products at the precision of the call.
    """

    def backward_xla(*arrays: jax.Array) -> list[jax.Array]:
        return list(jax.vjp(xla, *arrays[:-results])[1](list(arrays[-results:])))

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
    def run(strict: bool, precision: str | None, *arrays: jax.Array) -> list[jax.Array]:
        return native_call(forward, at_precision(xla, precision), shapes(*arrays), *arrays, strict=strict)

    def run_fwd(strict: bool, precision: str | None, *arrays: jax.Array):
        return run(strict, precision, *arrays), arrays

    def run_bwd(strict: bool, precision: str | None, arrays: tuple[jax.Array, ...], cotangents: Sequence[jax.Array]):
        gradients, fallback = [array.shape for array in arrays], at_precision(backward_xla, precision)
        return tuple(native_call(backward, fallback, gradients, *arrays, *cotangents, strict=strict))

    run.defvjp(run_fwd, run_bwd)

    def run_here(strict: bool, *arrays: jax.Array) -> Sequence[jax.Array]:
        return cast(Sequence[jax.Array], run(strict, current(), *arrays))

    return run_here
