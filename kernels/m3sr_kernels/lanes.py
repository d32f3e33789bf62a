"""Element-wise contractions with the vector lanes on the last axis: the form that XLA compiles best on a CPU.

BLAS is slow there at batched products of tiny matrices (16×16) when the batch is every pixel. With the batch on the
last axis such a product is a sum of a few element-wise products, which XLA compiles to one vectorised, threaded loop.
It does so only if each operand is in memory in row-major order: a producer fused into the loop is recomputed at every
use (measured: 30 times slower). So operands and results pass through `materialise`. Products that only broadcast also
use `lane_einsum`, because their gradients contract, and jax's own sums over six or more axes crash XLA's CPU runtime
(jaxlib 0.10.2).

On other platforms a contraction is one sum over a product, which XLA fuses into one kernel with a loop. Unrolled there
too, a scan's gradient was 3.6 times as many kernels, and kernels are what XLA's compile time for a GPU grows with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint


def materialise(array: jax.Array) -> jax.Array:
    """The same array, as a row-major buffer: XLA neither fuses it into its users nor changes its layout."""
    return cast(jax.Array, _materialise(array))


@jax.custom_vjp
def _materialise(array: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(with_layout_constraint(array, Layout(tuple(range(array.ndim)))))


_materialise.defvjp(lambda array: (materialise(array), None), lambda _, cotangent: (materialise(cotangent),))


def by_platform(on_cpu: Callable, elsewhere: Callable, *arrays: jax.Array) -> jax.Array:
    """One function of the arrays where the program is compiled for a CPU, another for all other platforms."""
    return jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)


def unstack(array: jax.Array, axis: int = 0) -> list[jax.Array]:
    """The slices along an axis, without that axis.

    The gradient is one concatenation; that of indexing would pad every slice to full size.
    """
    return [jnp.squeeze(part, axis) for part in jax.lax.split(array, [1] * array.shape[axis], axis)]


def lane_einsum(spec: str, left: jax.Array | np.ndarray, right: jax.Array) -> jax.Array:
    """`jnp.einsum(spec, left, right)` as a sum of element-wise products; on a CPU unrolled over the contracted letters.

    Args:
      spec: "ab…,cd…->…"; a contracted letter must occur in both operands. The last letter of the result is the lane
        axis, which should be long.
      left: first operand.
      right: second operand.

    Returns:
      The contraction, row-major. Its gradient is two such contractions.
    """
    return cast(jax.Array, _lane_einsum(spec, left, right))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lane_einsum(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    operands, out = spec.split("->")
    left_letters, right_letters = operands.split(",")
    return _contract(left_letters, right_letters, out, left, right)


def _contract(left_letters: str, right_letters: str, out: str, left: jax.Array, right: jax.Array) -> jax.Array:
    left, right = materialise(jnp.asarray(left)), materialise(jnp.asarray(right))
    letters = (left_letters, right_letters, out)
    unrolled, at_once = (functools.partial(form, *letters) for form in (contract_unrolled, contract_at_once))
    return by_platform(unrolled, at_once, left, right)


def contract_unrolled(left_letters: str, right_letters: str, out: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Unrolls the longest contracted letter, then sums over the others, if any."""
    sizes = _sizes((left_letters, left), (right_letters, right))
    contracted = _contracted(left_letters, right_letters, out, sizes)
    unrolled, summed = "".join(contracted[:1]), "".join(contracted[1:])
    full = summed + out

    def term(array: jax.Array, letters: str, index: int) -> jax.Array:
        """One summand's operand, with the axes of `full`."""
        if unrolled:
            array = jax.lax.index_in_dim(array, index, letters.index(unrolled), keepdims=False)
            letters = letters.replace(unrolled, "")
        return _spread(array, letters, full, sizes)

    products = (term(left, left_letters, i) * term(right, right_letters, i) for i in range(sizes.get(unrolled, 1)))
    total = materialise(functools.reduce(jnp.add, products))
    for _ in summed:
        total = materialise(functools.reduce(jnp.add, total))
    return total


def contract_at_once(left_letters: str, right_letters: str, out: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """Sums the product of both operands over the contracted letters."""
    sizes = _sizes((left_letters, left), (right_letters, right))
    contracted = _contracted(left_letters, right_letters, out, sizes)
    full = "".join(contracted) + out
    product = _spread(left, left_letters, full, sizes) * _spread(right, right_letters, full, sizes)
    return materialise(jnp.sum(product, axis=tuple(range(len(contracted)))))


def _sizes(*operands: tuple[str, jax.Array]) -> dict[str, int]:
    return {letter: size for letters, array in operands for letter, size in zip(letters, array.shape, strict=True)}


def _contracted(left_letters: str, right_letters: str, out: str, sizes: dict[str, int]) -> list[str]:
    """The contracted letters, the longest first."""
    return sorted((set(left_letters) & set(right_letters)) - set(out), key=lambda letter: (-sizes[letter], letter))


def _spread(array: jax.Array, letters: str, full: str, sizes: dict[str, int]) -> jax.Array:
    """The array with the axes of `full`; one that it lacks has length 1."""
    array = array.transpose([letters.index(letter) for letter in full if letter in letters])
    return array.reshape([sizes[letter] if letter in letters else 1 for letter in full])


def _lane_einsum_fwd(spec: str, left: jax.Array, right: jax.Array):
    return _lane_einsum(spec, left, right), (left, right)


def _lane_einsum_bwd(spec: str, operands: tuple[jax.Array, jax.Array], cotangent: jax.Array):
    letters, out = spec.split("->")
    left_letters, right_letters = letters.split(",")
    left, right = operands
    return (
        _contract(out, right_letters, left_letters, cotangent, right),
        _contract(out, left_letters, right_letters, cotangent, left),
    )


_lane_einsum.defvjp(_lane_einsum_fwd, _lane_einsum_bwd)
