"""How a Triton program reads and writes its tile: some sequences × some channels, one token at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt


class TileAccess:
    """Masked loads and stores of program (i, j): sequences from i·rows on, channels from j·columns on.

    Arrays wider than the tile's channels or sequences are masked: what lies outside reads as 0. Every index is an
    integer or an array of integers, the only kind that Triton takes masks with.
    """

    def __init__(self, shape: tuple[int, int], tile: tuple[int, int], dtype: Any) -> None:
        """`shape` is (sequences, channels) of the arrays, `tile` of a program; `dtype` that of the arithmetic."""
        self.shape, self.dtype = tile, dtype
        self.row_block, self.column_block = pl.program_id(0), pl.program_id(1)
        self.rows = self.row_block * tile[0] + jnp.arange(tile[0], dtype=jnp.int32)
        self.columns = self.column_block * tile[1] + jnp.arange(tile[1], dtype=jnp.int32)
        self.row_mask, self.column_mask = self.rows < shape[0], self.columns < shape[1]

    def token(self, ref: Any, t: Any) -> jax.Array:
        """(rows, columns) of token or state t of an array (sequences, tokens, channels)."""
        at = ref.at[self.rows[:, None], t, self.columns[None]]
        return plt.load(at, mask=self._mask(), other=0).astype(self.dtype)

    def store_token(self, ref: Any, t: Any, value: jax.Array) -> None:
        at = ref.at[self.rows[:, None], t, self.columns[None]]
        plt.store(at, value.astype(ref.dtype), mask=self._mask())

    def per_row(self, ref: Any, t: Any, column: Any) -> jax.Array:
        """(rows, 1): one number a sequence, of an array (sequences, tokens, width)."""
        return plt.load(ref.at[self.rows, t, column], mask=self.row_mask, other=0).astype(self.dtype)[:, None]

    def per_column(self, ref: Any, *index: Any) -> jax.Array:
        """(1, columns): one number a channel, of an array (…, channels)."""
        return plt.load(ref.at[*index, self.columns], mask=self.column_mask, other=0).astype(self.dtype)[None]

    def store_sums_over_columns(self, ref: Any, *index: Any, values: list[jax.Array]) -> None:
        """Sums each of the tiles over its channels into [channel block, *index, sequences, its number].

        One store for all of them: a store a tile would cost a barrier each.
        """
        numbers = jnp.arange(pl.next_power_of_2(len(values)), dtype=jnp.int32)[None]
        sums = jnp.zeros((self.shape[0], numbers.shape[1]), self.dtype)
        for number, value in enumerate(values):
            sums = jnp.where(numbers == number, jnp.sum(value, axis=1)[:, None], sums)
        mask = self.row_mask[:, None] & (numbers < len(values))
        plt.store(ref.at[self.column_block, *index, self.rows[:, None], numbers], sums, mask=mask)

    def store_sum_over_rows(self, ref: Any, *index: Any, value: jax.Array) -> None:
        """Sums a tile over its sequences into [sequence block, *index, channels]."""
        plt.store(ref.at[self.row_block, *index, self.columns], jnp.sum(value, axis=0), mask=self.column_mask)

    def _mask(self) -> jax.Array:
        return self.row_mask[:, None] & self.column_mask[None]


def softplus(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def sigmoid(x: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.exp(-x))
