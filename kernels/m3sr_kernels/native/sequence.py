"""What the scans over pixels share: the order of a sequence, its step sizes, a partition of the work.

A scan runs over chunks of `lanes` elements of a sequence. Sequence element t is pixel (t mod inner)·inner_stride +
(t div inner)·outer_stride, so one description serves rows, columns and plain sequences. A chunk's pixels
stand in a table.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.vector_math import LOG2_E, exp2, softplus


@dataclasses.dataclass
class Walk:
    """A sequence of pixels and the chunks of it that a unit visits.

    Attributes:
      length: elements of the whole sequence.
      inner: elements of a line.
      inner_stride: pixels between neighbours in a line.
      outer_stride: pixels between lines.
      backwards: 1 if the last element comes first, else 0.
      first: first chunk, in order of the pixels.
      last: one past the last chunk.
    """

    length: Value
    inner: Value
    inner_stride: Value
    outer_stride: Value
    backwards: Value
    first: Value
    last: Value

    def chunk(self, k: Code, number: Value) -> Value:
        """The chunk that the walk visits as number 0, 1 and so on."""
        return k.select(self.backwards.equals(1), self.last - 1 - number, self.first + number)

    def table(self, module: Module, k: Code, chunk: Value, pixels: Value) -> Value:
        """Writes the pixels of a chunk, in order of the visit, to a table; returns how many there are."""
        count = k.minimum(self.length - chunk * k.lanes, k.lanes)
        start = chunk * k.lanes + k.select(self.backwards.equals(1), count - 1, k.int(0))
        step = k.int(1) - self.backwards * 2
        k.call(_table_function(module), pixels, count, start, step, self.inner, self.inner_stride, self.outer_stride)
        return count

    @property
    def count(self) -> Value:
        """Chunks of the unit."""
        return self.last - self.first

    @contextlib.contextmanager
    def visit(
        self,
        module: Module,
        k: Code,
        tables: Value,
        streams: Sequence[tuple[Value, Value, Value]] = (),
        *,
        reverse: bool = False,
    ) -> Iterator[tuple[Value, Value, Value]]:
        """Loops over the chunks, as (number, pixels, count); with `reverse` the last number comes first.

        Args:
          module: for functions.
          k: code.
          tables: memory of two tables of pixels, 4 · lanes floats.
          streams: (base, stride, floats) of arrays whose pixels lie far apart; each next chunk's are prefetched.
          reverse: the visit runs against the walk.
        """
        number_of = (lambda i: self.count - 1 - i) if reverse else (lambda i: i)
        place = lambda i: tables + (i % 2) * (2 * k.lanes)  # noqa: E731
        count = k.cell(0)
        with k.when(self.count > 0):
            count.set(self.table(module, k, self.chunk(k, number_of(k.int(0))), place(k.int(0))))
        with k.loop(self.count) as i:
            here, pixels = count.get(), place(i)
            with k.when(i + 1 < self.count):
                following = place(i + 1)
                count.set(self.table(module, k, self.chunk(k, number_of(i + 1)), following))
                if streams:
                    with k.loop(count.get()) as element:
                        pixel = k.load_int(following, element)
                        for base, stride, floats in streams:
                            with k.loop(floats, step=16) as line:
                                k.prefetch(base + pixel * stride, line)
            yield number_of(i), pixels, here


def _table_function(module: Module) -> ir.Function:
    def body(k, pixels, count, start, step, inner, inner_stride, outer_stride):
        place, line = k.cell(start % inner), k.cell(start / inner)
        with k.loop(count) as i:
            k.store_int(place.get() * inner_stride + line.get() * outer_stride, pixels, i)
            moved = place.get() + step
            beyond, before = moved >= inner, moved < 0
            place.set(k.select(beyond, k.int(0), k.select(before, inner - 1, moved)))
            line.set(line.get() + k.select(beyond, k.int(1), k.select(before, k.int(-1), k.int(0))))

    return module.once("table", lambda: module.function("table", "piiiiii", body))


def steps_function(module: Module) -> ir.Function:
    """steps(dt, stride, pixels, count, bias, a, out): a chunk's dt + bias, Δ and log₂ of the decays, a vector each.

    Elements that are not there have Δ = 0: they keep the state as it is.
    """

    def body(k: Code, dt: Value, stride: Value, pixels: Value, count: Value, bias: Value, a: Value, out: Value) -> None:
        with k.loop(count) as i:
            k.store(k.scalar(dt, k.load_int(pixels, i) * stride), out, i)
        there = k.lanes_below(count)
        raw = k.select(there, k.load(out) + bias, k.zero())
        step = k.select(there, softplus(k, raw), k.zero())
        k.store(raw, out)
        k.store(step, out, k.lanes)
        k.store(step * (a * LOG2_E), out, 2 * k.lanes)

    return module.once("steps", lambda: module.function("steps", "pipiffp", body))


def store_decays(k: Code, steps: Value) -> None:
    """Replaces the logarithms that `steps` left by the decays themselves."""
    k.store(exp2(k, k.load(steps, 2 * k.lanes)), steps, 2 * k.lanes)


@dataclasses.dataclass
class Share:
    """What a unit works on.

    Attributes:
      batch: number of the image or sequence.
      block: number of the block of heads.
      first_head: its first head.
      last_head: one past its last head.
      segment: number of the segment.
      segments: how many there are.
    """

    batch: Value
    block: Value
    first_head: Value
    last_head: Value
    segment: Value
    segments: Value

    @classmethod
    def of(cls, unit: Value, heads: Value, blocks: Value, parts: Value) -> Share:
        """Units are numbered batch by batch, block by block, segment by segment."""
        rest = unit / parts
        block = rest % blocks
        return cls(rest / blocks, block, heads * block / blocks, heads * (block + 1) / blocks, unit % parts, parts)


def head_blocks(k, batch, heads, threads):
    """Parts of the heads that become units of their own: about two units a thread, if there are so many heads."""
    return k.minimum(heads, k.maximum((threads * 2 + batch - 1) // batch, 1))


def segments(k, units, chunks, threads):
    """Parts of a sequence: one if there are units for all threads, since more of them cost a further pass."""
    wanted = k.minimum((threads * 2 + units - 1) // units, (chunks + 3) // 4)
    return k.select(units >= threads, 1, k.maximum(wanted, 1))
