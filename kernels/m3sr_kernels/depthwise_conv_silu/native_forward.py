"""The convolution on a CPU: a vector of channels walks along a row and keeps the 3×3 window in registers.

The last vector of channels begins early enough to end with the channels; what it shares with the one before it is
computed twice, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature
from m3sr_kernels.native.vector_math import silu

ROWS = 8  # that a unit of the forward pass convolves
TAPS = 9
Line = tuple[Value, Value]  # first vector of a row, and floats from pixel to pixel


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
        with k.vectors(job.C) as (o, _):
            copy_taps(k, job, o, taps)
            with k.loop(k.minimum(first + ROWS, job.H), start=first) as row:
                lines = [image_line(k, job, "x", image, row + i, o, scratch) for i in (-1, 0, 1)]
                target = image_line(k, job, "y", image, row, o, scratch)
                k.call(convolve, *flat(lines), job.W, taps, *target)
