"""Rows of any length in vectors, transposed tiles, and working memory cut into named arrays."""

from __future__ import annotations

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Operand, Value


class Arena:
    """Cuts one block of memory into arrays, each beginning on a whole vector.

    Made without a block it only adds up what is needed.
    """

    def __init__(self, k: Code, block: Value | None = None) -> None:
        self._k, self._block, self.total = k, block, k.int(0)

    def take(self, floats: Operand) -> Value:
        """The next array."""
        begin, lanes = self.total, self._k.lanes
        self.total = begin + (self._k.int(0) + floats + (lanes - 1)) / lanes * lanes
        return begin if self._block is None else self._block + begin


def round_up(value: Value, multiple: int) -> Value:
    """The next multiple."""
    return (value + (multiple - 1)) / multiple * multiple


def transpose(k: Code, rows: list[Value]) -> list[Value]:
    """Transposes a square of `lanes` vectors."""
    width = 1
    while width < k.lanes:
        result = list(rows)
        for i in range(k.lanes):
            if not i & width:
                low = [lane if not lane & width else k.lanes + lane - width for lane in range(k.lanes)]
                high = [lane + width if not lane & width else k.lanes + lane for lane in range(k.lanes)]
                result[i] = k.shuffle(rows[i], rows[i + width], low)
                result[i + width] = k.shuffle(rows[i], rows[i + width], high)
        rows, width = result, width * 2
    return rows


def sum_of_rows(k: Code, rows: list[Value]) -> Value:
    """The vector of the sums over the lanes of `lanes` vectors: lane i is the sum of rows[i]."""
    width = 1
    while width < k.lanes:
        low = [lane if not lane & width else k.lanes + lane - width for lane in range(k.lanes)]
        high = [lane + width if not lane & width else k.lanes + lane for lane in range(k.lanes)]
        pairs = zip(rows[::2], rows[1::2], strict=True)
        rows, width = [k.shuffle(x, y, low) + k.shuffle(x, y, high) for x, y in pairs], width * 2
    return rows[0]


def transpose_function(module: Module) -> ir.Function:
    """transpose(rows, row stride, columns, column stride): one tile of lanes × lanes floats."""

    def body(k: Code, rows: Value, row_stride: Value, columns: Value, column_stride: Value) -> None:
        tile = [k.load(rows + row_stride * i) for i in range(k.lanes)]
        for i, column in enumerate(transpose(k, tile)):
            k.store(column, columns + column_stride * i)

    return module.once("transpose", lambda: module.function("transpose", "pipi", body))


def copy_row_function(module: Module) -> ir.Function:
    """copy(source, target, count): exactly `count` floats, not one more read or written."""

    def body(k: Code, source: Value, target: Value, count: Value) -> None:
        with k.loop(count, step=k.lanes) as i:
            mask = k.lanes_below(count - i)
            k.store_masked(mask, k.load_masked(mask, source, i), target, i)

    return module.once("copy_row", lambda: module.function("copy_row", "ppi", body))


def shifted(k: Code, x: Value, by: int) -> Value:
    """Lane i of the result is lane i − by of x, zero where there is none; `by` may be negative."""
    lanes = [lane - by if 0 <= lane - by < k.lanes else k.lanes for lane in range(k.lanes)]
    return k.shuffle(x, k.zero(), lanes)


def running_sum(k: Code, x: Value, *, backwards: bool = False) -> Value:
    """Lane i is the sum of the lanes up to i, or from i on: each sum adds its own lanes only."""
    width = 1
    while width < k.lanes:
        x = x + shifted(k, x, -width if backwards else width)
        width *= 2
    return x
