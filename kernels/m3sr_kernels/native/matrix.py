"""Small matrix products from memory to memory, the accumulators in registers."""

from __future__ import annotations

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Operand, Value


def tile_rows(module: Module, rows: int) -> int:
    """The most rows of accumulators that divide `rows` and fit the registers."""
    return max(size for size in range(1, module.tile[0] + 1) if rows % size == 0)


def product_function(module: Module, rows_at_once: int, *, accumulate: bool) -> ir.Function:
    """product(c, c_row, a, a_k, a_row, b, b_k, inner, rows, vectors, scale).

    c[i] = Σ_k a[k·a_k + i·a_row]·b[k], rows of `vectors` vectors; `accumulate` adds c's old rows times `scale`.
    All strides count floats; `rows` is a multiple of `rows_at_once`, `inner` is at least 1.
    """

    def body(k, c, c_row, a, a_k, a_row, b, b_k, inner, rows, vectors, scale):
        widest = module.tile[1]
        done = k.cell(0)
        with k.repeat_while(lambda: done.get() < vectors):
            left = vectors - done.get()
            # Four vectors are two and two: three and one would read `a` as often and wait for sums.
            for width in range(widest, 0, -1):
                fits = (left.differs(3) | k.int(widest).equals(2)) & (left >= 2) if width == 2 else left.equals(width)
                with k.when(fits):
                    begin = done.get() * k.lanes
                    with k.loop(rows, step=rows_at_once) as row:
                        target = c + row * c_row + begin
                        _tile(k, target, c_row, a + row * a_row, a_k, a_row, b + begin, b_k, inner, width, scale)
            done.add(k.minimum(left, 2 if widest == 2 else k.select(left.equals(3), k.int(3), k.int(2))))

    def _tile(k: Code, c, c_row, a, a_k, a_row, b, b_k, inner, width, scale) -> None:
        if accumulate:
            start = [[k.load(c + c_row * i, v * k.lanes) * scale for v in range(width)] for i in range(rows_at_once)]
        else:
            start = [[k.zero()] * width for _ in range(rows_at_once)]
        sums = [[k.cell(value) for value in row] for row in start]
        with k.loop(inner) as step:
            right = [k.load(b + step * b_k, v * k.lanes) for v in range(width)]
            for i in range(rows_at_once):
                left = k.broadcast(a + step * a_k + a_row * i)
                for cell, value in zip(sums[i], right, strict=True):
                    cell.set(k.fma(left, value, cell.get()))
        for i in range(rows_at_once):
            for v in range(width):
                k.store(sums[i][v].get(), c + c_row * i, v * k.lanes)

    name = f"product_{rows_at_once}_{'add' if accumulate else 'set'}"
    return module.once(name, lambda: module.function(name, "pipiipiiiif", body))


def product(
    k: Code,
    c: tuple[Value, Operand],
    a: tuple[Value, Operand, Operand],
    b: tuple[Value, Operand],
    *,
    inner,
    rows,
    vectors,
    scale: Value | float | None = None,
    rows_at_once: int,
) -> None:
    """Calls `product_function`, adding if there is a scale.

    c is (pointer, row), a (pointer, step, row), b (pointer, step).
    """
    function = product_function(k.owner, rows_at_once, accumulate=scale is not None)
    factor = scale if isinstance(scale, Value) else k.float(0.0 if scale is None else scale)
    k.call(function, c[0], c[1], a[0], a[1], a[2], b[0], b[1], inner, rows, vectors, factor)
