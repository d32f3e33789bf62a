"""The convolution's gradients on a CPU: three rows of slopes stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.depthwise_conv_silu import native_forward as rows
from m3sr_kernels.depthwise_conv_silu.native_forward import TAPS, Line
from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature
from m3sr_kernels.native.memory import Arena
from m3sr_kernels.native.vector_math import sigmoid

SLICES = 16  # of the rows, each with a sum of its own for the kernel's gradient


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
        count, slices = job.B * job.H, self._slices(k, job)
        first, last = count * unit / slices, count * (unit + 1) / slices
        work = self._image_function(module)
        with k.vectors(job.C) as (o, _):
            rows.copy_taps(k, job, o, taps)
            rows.copy_taps(k, job, o, reversed_taps, backwards=True)
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
                lines = [rows.image_line(k, job, "x", image, row + i, o, zero) for i in (-1, 0, 1)]
                given = rows.image_line(k, job, "dy", image, row, o, zero)
                k.call(slope, pointer, scratch, *rows.flat(lines), *given, slope_at(row), own)

            with k.when(start > 0):
                compute(start - 1, 0)
            compute(start, 1)
            back = rows.convolve_function(module, "back", lambda k, total: total)
            with k.loop(stop, start=start) as row:
                with k.when(row + 1 < job.H):
                    compute(row + 1, k.select(row + 1 < stop, k.int(1), 0))
                lines = [line(row + i) for i in (-1, 0, 1)]
                k.call(
                    back, *rows.flat(lines), job.W, reversed_taps, *rows.image_line(k, job, "dx", image, row, o, zero)
                )

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
                total = rows.weighted(k, window, taps)
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

                    rows.along_row(k, lines, job.W, add)
                    for tap, total in enumerate(totals):
                        k.store(total.get(), sums, tap * k.lanes)
                with outside:
                    rows.along_row(k, lines, job.W, slope)

        return module.once("slope", lambda: module.function("slope", "pp" + "pi" * 4 + "pi", body))

    def _add_slices(self, k: Code, job: Job, tap: Value) -> None:
        """The slices' sums in their order."""
        with k.vectors(job.C) as (o, _):
            total = k.cell(k.zero())
            with k.loop(self._slices(k, job)) as slice_:
                total.add(k.load(job.shared, (slice_ * TAPS + tap) * job.C + o))
            k.store(total.get(), job["dkernel"], tap * job.C + o)
