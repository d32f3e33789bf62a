"""The convolution on a CPU: a vector of channels walks along a row and keeps the 3×3 window in registers.

The last vector of channels begins early enough to end with the channels; what it shares with the one before it is
computed twice, to the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.ffi import Job, Kernel, Signature
from m3sr_kernels.native.memory import Arena
from m3sr_kernels.native.vector_math import sigmoid, silu

ROWS = 8  # that a unit of the forward pass convolves
SLICES = 16  # of the rows, each with a sum of its own for the kernel's gradient
TAPS = 9
Line = tuple[Value, Value]  # first vector of a row, and floats from pixel to pixel


@contextlib.contextmanager
def channel_vectors(k: Code, job: Job) -> Iterator[Value]:
    """Loops over the first channels of all vectors."""
    with k.loop(job.C, step=k.lanes) as channel:
        yield k.minimum(channel, job.C - k.lanes)


def image_line(k: Code, job: Job, name: str, image: Value, row: Value, channel: Value, zero: Value) -> Line:
    """A vector of channels of an image's row; outside the image it stays at the vector `zero`."""
    inside = (row >= 0) & (row < job.H)
    start = job[name] + (image * job.H + row) * job.W * job.C + channel
    return k.select(inside, start, zero), k.select(inside, job.C, 0)


def flat(lines: Sequence[Line]) -> list[Value]:
    """Arguments of a function, for its lines."""
    return [value for line in lines for value in line]


def copy_taps(k: Code, job: Job, channel: Value, taps: Value, *, backwards: bool = False) -> None:
    """The kernel of a vector of channels, tap after tap."""
    for tap in range(TAPS):
        k.store(k.load(job["kernel"], job.C * tap + channel), taps, (TAPS - 1 - tap if backwards else tap) * k.lanes)


def weighted(k: Code, window: Sequence[Value], taps: Value) -> Value:
    """Sum over the window, row by row and then over the rows, so that products do not wait for each other."""
    rows = []
    for first in range(0, TAPS, 3):
        total = window[first] * k.load(taps, first * k.lanes)
        for tap in (first + 1, first + 2):
            total = k.fma(window[tap], k.load(taps, tap * k.lanes), total)
        rows.append(total)
    return rows[0] + rows[1] + rows[2]


def along_row(k: Code, lines: Sequence[Line], width: Value, body: Callable[[Sequence[Value], Value], Any]) -> None:
    """Calls `body` with the window around each pixel of a row, and the pixel; beyond the ends there are zeros."""
    left = [k.cell(k.zero()) for _ in lines]
    centre = [k.cell(k.load(start)) for start, _ in lines]

    def window(right: Sequence[Value]) -> list[Value]:
        columns = zip(left, centre, right, strict=True)
        return [value for before, here, after in columns for value in (before.get(), here.get(), after)]

    with k.loop(width - 1) as pixel:
        right = [k.load(start + (pixel + 1) * step) for start, step in lines]
        body(window(right), pixel)
        for before, here, after in zip(left, centre, right, strict=True):
            before.set(here.get())
            here.set(after)
    body(window([k.zero()] * 3), width - 1)


def convolve_function(module: Module, name: str, finish: Callable[[Code, Value], Value]) -> ir.Function:
    """convolve(three lines, width, taps, out, step): `finish` of the weighted sums of a row."""

    def body(k: Code, *rest: Value) -> None:
        *flat_lines, width, taps, out, step = rest
        lines = list(zip(flat_lines[::2], flat_lines[1::2], strict=True))

        def convolve(window: Sequence[Value], pixel: Value) -> None:
            k.store(finish(k, weighted(k, window, taps)), out + pixel * step)

        along_row(k, lines, width, convolve)

    return module.once(("convolve", name), lambda: module.function(f"convolve_{name}", "pi" * 3 + "ippi", body))


class Forward(Kernel):
    """The convolution and SiLU."""

    signature = Signature({"x": "B H W C", "kernel": "3 3 C"}, {"y": "B H W C"})
    phase_names = ("rows",)

    def constraints(self, job: Job) -> Sequence[Value]:
        """A vector of channels, at least."""
        return [job.lanes <= job.C]

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """A unit is a block of an image's rows."""
        return [job.B * self._blocks(job)]

    def _blocks(self, job: Job) -> Value:
        return (job.H + (ROWS - 1)) / ROWS

    def scratch(self, k: Code, job: Job) -> Value:
        """A zero vector, for rows outside the image, and the taps."""
        return k.int((1 + TAPS) * k.lanes)

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """Convolves its rows, channels after channels."""
        k.store(k.zero(), scratch)
        image, first = unit / self._blocks(job), unit % self._blocks(job) * ROWS
        taps = scratch + k.lanes
        convolve = convolve_function(module, "silu", silu)
        with channel_vectors(k, job) as o:
            copy_taps(k, job, o, taps)
            with k.loop(k.minimum(first + ROWS, job.H), start=first) as row:
                lines = [image_line(k, job, "x", image, row + i, o, scratch) for i in (-1, 0, 1)]
                target = image_line(k, job, "y", image, row, o, scratch)
                k.call(convolve, *flat(lines), job.W, taps, *target)


class Backward(Kernel):
    """The gradients of image and kernel; the convolution is computed again."""

    signature = Signature({"x": "B H W C", "kernel": "3 3 C", "dy": "B H W C"}, {"dx": "B H W C", "dkernel": "3 3 C"})
    phase_names = ("slices", "sums")

    def constraints(self, job: Job) -> Sequence[Value]:
        """A vector of channels, at least."""
        return [job.lanes <= job.C]

    def _slices(self, k: Code, job: Job) -> Value:
        return k.minimum(job.B * job.H, k.maximum(job.threads, SLICES))

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Slices of all images' rows, then taps."""
        return [self._slices(k, job), k.int(TAPS)]

    def shared(self, k: Code, job: Job) -> Value:
        """Sums of every slice."""
        return self._slices(k, job) * job.C * TAPS

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None)[-1]

    def _arrays(self, k: Code, job: Job, block: Value | None) -> tuple[Value, ...]:
        """A zero vector, taps, reversed taps, sums of the taps' gradients, three rows of slopes; the total."""
        arena, lanes = Arena(k, block), k.lanes
        sizes = (lanes, TAPS * lanes, TAPS * lanes, TAPS * lanes, job.W * (3 * lanes))
        return (*[arena.take(size) for size in sizes], arena.total)

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """The rows of a slice, or the sums of a tap."""
        if phase == 1:
            self._add_slices(k, job, unit)
            return
        zero, taps, reversed_taps, sums, _, _ = self._arrays(k, job, scratch)
        k.store(k.zero(), zero)
        rows, slices = job.B * job.H, self._slices(k, job)
        first, last = rows * unit / slices, rows * (unit + 1) / slices
        work = self._image_function(module)
        with channel_vectors(k, job) as o:
            copy_taps(k, job, o, taps)
            copy_taps(k, job, o, reversed_taps, backwards=True)
            k.fill(sums, TAPS * k.lanes)
            row = k.cell(first)
            with k.repeat_while(lambda: row.get() < last):
                image, start = row.get() / job.H, row.get() % job.H
                stop = k.minimum(job.H, start + last - row.get())
                k.call(work, job.pointer, scratch, o, image, start, stop)
                row.add(stop - start)
            for tap in range(TAPS):
                k.store(k.load(sums, tap * k.lanes), job.shared, (unit * TAPS + tap) * job.C + o)

    def _image_function(self, module: Module) -> ir.Function:
        """rows(job, scratch, channel, image, start, stop): the gradients of an image's rows from start to stop."""

        def body(k: Code, pointer: Value, scratch: Value, o: Value, image: Value, start: Value, stop: Value) -> None:
            job = Job(k, pointer, self.signature)
            zero, _, reversed_taps, _, slopes, _ = self._arrays(k, job, scratch)
            slope_at = lambda row: slopes + row % 3 * (job.W * k.lanes)  # noqa: E731
            slope = self._slope_function(module)

            def line(row: Value) -> Line:
                inside = (row >= 0) & (row < job.H)
                return k.select(inside, slope_at(row), zero), k.select(inside, k.int(k.lanes), 0)

            def compute(row: Value, own: int | Value) -> None:
                lines = [image_line(k, job, "x", image, row + i, o, zero) for i in (-1, 0, 1)]
                given = image_line(k, job, "dy", image, row, o, zero)
                k.call(slope, pointer, scratch, *flat(lines), *given, slope_at(row), own)

            with k.when(start > 0):
                compute(start - 1, 0)
            compute(start, 1)
            back = convolve_function(module, "back", lambda k, total: total)
            with k.loop(stop, start=start) as row:
                with k.when(row + 1 < job.H):
                    compute(row + 1, k.select(row + 1 < stop, k.int(1), 0))
                lines = [line(row + i) for i in (-1, 0, 1)]
                k.call(back, *flat(lines), job.W, reversed_taps, *image_line(k, job, "dx", image, row, o, zero))

        return module.once("image rows", lambda: module.function("image_rows", "ppiiii", body))

    def _slope_function(self, module: Module) -> ir.Function:
        """slope(job, scratch, three lines of x, a line of dy, out, own): gradient of the convolution's output.

        Adds to the taps' sums if the row is the slice's `own`.
        """

        def body(k: Code, pointer: Value, scratch: Value, *rest: Value) -> None:
            job = Job(k, pointer, self.signature)
            _, taps, _, sums, _, _ = self._arrays(k, job, scratch)
            *flat_lines, given, given_step, out, own = rest
            lines = list(zip(flat_lines[::2], flat_lines[1::2], strict=True))

            def slope(window: Sequence[Value], pixel: Value) -> Value:
                total = weighted(k, window, taps)
                gate = sigmoid(k, total)
                by_total = gate * k.fma(total, k.vec(1.0) - gate, k.vec(1.0))
                result = k.load(given + pixel * given_step) * by_total
                k.store(result, out, pixel * k.lanes)
                return result

            with k.either(own.equals(1)) as (inside, outside):
                with inside:
                    totals = [k.cell(k.load(sums, tap * k.lanes)) for tap in range(TAPS)]

                    def add(window: Sequence[Value], pixel: Value) -> None:
                        result = slope(window, pixel)
                        for total, value in zip(totals, window, strict=True):
                            total.set(k.fma(result, value, total.get()))

                    along_row(k, lines, job.W, add)
                    for tap, total in enumerate(totals):
                        k.store(total.get(), sums, tap * k.lanes)
                with outside:
                    along_row(k, lines, job.W, slope)

        return module.once("slope", lambda: module.function("slope", "pp" + "pi" * 4 + "pi", body))

    def _add_slices(self, k: Code, job: Job, tap: Value) -> None:
        """The slices' sums in their order."""
        with channel_vectors(k, job) as o:
            total = k.cell(k.zero())
            with k.loop(self._slices(k, job)) as slice_:
                total.add(k.load(job.shared, (slice_ * TAPS + tap) * job.C + o))
            k.store(total.get(), job["dkernel"], tap * job.C + o)
