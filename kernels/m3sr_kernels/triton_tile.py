"""Reads and writes a Triton program's tile: a block of sequences × a block of channels, one token at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt


def multiply_add(a: jax.Array, b: jax.Array, c: jax.Array, *, interpret: bool) -> jax.Array:
    """a·b + c in one instruction; Triton rounds twice and does not fuse the two."""
    if interpret:
        return a * b + c
    shape, double = jnp.broadcast_shapes(a.shape, b.shape, c.shape), c.dtype == jnp.float64
    [result] = plt.elementwise_inline_asm(
        f"fma.rn.{'f64' if double else 'f32'} $0, $1, $2, $3;",
        args=[jnp.broadcast_to(x, shape) for x in (a, b, c)],
        constraints="=d,d,d,d" if double else "=f,f,f,f",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(shape, c.dtype)],
    )
    return result


class Tile:
    """Masked loads and stores of program (i, j), whose sequences start at i·rows and channels at j·columns.

    Elements past the end of an array read as 0. Every index is an integer or an array of integers: Triton masks no
    other kind.
    """

    def __init__(self, shape: tuple[int, int], tile: tuple[int, int], dtype: Any, *, interpret: bool) -> None:
        """`shape` and `tile` are (sequences, channels) of the arrays and of a program; `dtype` is that of the sums."""
        self.shape, self.dtype, self.interpret = tile, dtype, interpret
        self.row_block, self.column_block = pl.program_id(0), pl.program_id(1)
        self.rows = self.row_block * tile[0] + jnp.arange(tile[0], dtype=jnp.int32)
        self.columns = self.column_block * tile[1] + jnp.arange(tile[1], dtype=jnp.int32)
        self.row_mask, self.column_mask = self.rows < shape[0], self.columns < shape[1]

    def token(self, ref: Any, t: Any) -> jax.Array:
        """Token or state t of an array (sequences, tokens, channels), (rows, columns)."""
        at = ref.at[self.rows[:, None], t, self.columns[None]]
        return plt.load(at, mask=self._mask(), other=0).astype(self.dtype)

    def store_token(self, ref: Any, t: Any, value: jax.Array) -> None:
        at = ref.at[self.rows[:, None], t, self.columns[None]]
        plt.store(at, value.astype(ref.dtype), mask=self._mask())

    def per_row(self, ref: Any, t: Any, column: Any) -> jax.Array:
        """One number a sequence, (rows, 1), of an array (sequences, tokens, width)."""
        return plt.load(ref.at[self.rows, t, column], mask=self.row_mask, other=0).astype(self.dtype)[:, None]

    def per_column(self, ref: Any, *index: Any) -> jax.Array:
        """One number a channel, (1, columns), of an array (…, channels)."""
        return plt.load(ref.at[*index, self.columns], mask=self.column_mask, other=0).astype(self.dtype)[None]

    def store_sums_over_columns(self, ref: Any, *index: Any, values: list[jax.Array]) -> None:
        """Sums tile i of `values` over its channels and stores it at [channel block, *index, sequences, i].

        All sums are stored at once: separate stores would cost a barrier each.
        """
        numbers = jnp.arange(pl.next_power_of_2(len(values)), dtype=jnp.int32)[None]
        sums = jnp.zeros((self.shape[0], numbers.shape[1]), self.dtype)
        for number, value in enumerate(values):
            sums = jnp.where(numbers == number, jnp.sum(value, axis=1)[:, None], sums)
        mask = self.row_mask[:, None] & (numbers < len(values))
        plt.store(ref.at[self.column_block, *index, self.rows[:, None], numbers], sums, mask=mask)

    def store_sum_over_rows(self, ref: Any, *index: Any, value: jax.Array) -> None:
        """Sums a tile over its sequences and stores it at [sequence block, *index, channels]."""
        plt.store(ref.at[self.row_block, *index, self.columns], jnp.sum(value, axis=0), mask=self.column_mask)

    def multiply_add(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return multiply_add(a, b, c, interpret=self.interpret)

    def _mask(self) -> jax.Array:
        return self.row_mask[:, None] & self.column_mask[None]
