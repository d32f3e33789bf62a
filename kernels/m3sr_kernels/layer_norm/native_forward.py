"""Layer norm on a CPU: as many rows at a time as a vector has lanes, which stay in the cache for three passes.

The last vector of channels begins early enough to end with the channels, and the last rows likewise; what they share
with those before is computed twice, to the same bits, and counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature
from m3sr_kernels.native.memory import sum_of_rows

BLOCKS = 4  # of rows, in a unit of the forward pass


class Rows(Kernel):
    """What both kernels share."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon

    def constraints(self, job: Job) -> Sequence[Value]:
        """A vector of channels, at least, and as many rows."""
        return [job.lanes <= job.C, job.lanes <= job.M]

    def blocks(self, job: Job) -> Value:
        """Blocks of rows."""
        return (job.M + (job.lanes - 1)) / job.lanes

    def first_row(self, k: Code, job: Job, block: Value) -> Value:
        """Where a block begins."""
        return k.minimum(block * job.lanes, job.M - job.lanes)

    def row_means(self, k: Code, job: Job, term: Callable[[int, Value, Value], Value]) -> Value:
        """Lane i is the mean over the channels of `term(i, place, channel)`, place counted from the first row on."""
        totals = [k.cell(k.zero()) for _ in range(k.lanes)]
        with k.vectors(job.C) as (o, seen):
            new = ~k.lanes_below(seen)
            for i, total in enumerate(totals):
                total.add(k.select(new, term(i, job.C * i + o, o), 0.0))
        return sum_of_rows(k, [total.get() for total in totals]) / k.to_float(job.C)

    def statistics(self, k: Code, job: Job, rows: Value, kept: Value) -> None:
        """Keeps the vectors of the rows' means and of 1/√(variance + ε)."""
        k.store(self.row_means(k, job, lambda i, place, o: k.load(rows, place)), kept)

        def square(i: int, place: Value, o: Value) -> Value:
            centred = k.load(rows, place) - k.broadcast(kept, i)
            return centred * centred

        k.store(1.0 / k.sqrt(self.row_means(k, job, square) + self.epsilon), kept, k.lanes)

    def normed(self, k: Code, value: Value, kept: Value, row: Value | int) -> Value:
        """A row's values, normed."""
        return (value - k.broadcast(kept, row)) * k.broadcast(kept + k.lanes, row)


class Forward(Rows):
    """The norm."""

    signature = Signature({"x": "M C", "scale": "C", "bias": "C"}, {"y": "M C"})
    phase_names = ("rows",)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """A unit is some blocks of rows."""
        return [(self.blocks(job) + (BLOCKS - 1)) / BLOCKS]

    def scratch(self, k: Code, job: Job) -> Value:
        """Means and rates of a block."""
        return k.int(2 * k.lanes)

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """Norms its rows."""
        with k.loop(k.minimum((unit + 1) * BLOCKS, self.blocks(job)), start=unit * BLOCKS) as block:
            k.call(self._block_function(module), job.pointer, scratch, self.first_row(k, job, block))

    def _block_function(self, module: Module) -> ir.Function:
        """norm(job, kept, first row): one block."""

        def body(k: Code, pointer: Value, kept: Value, first: Value) -> None:
            job = Job(k, pointer, self.signature)
            rows, out = job["x"] + first * job.C, job["y"] + first * job.C
            self.statistics(k, job, rows, kept)
            with k.vectors(job.C) as (o, _):
                scale, bias = k.load(job["scale"], o), k.load(job["bias"], o)
                for i in range(k.lanes):
                    place = job.C * i + o
                    k.store(k.fma(self.normed(k, k.load(rows, place), kept, i), scale, bias), out, place)

        return module.once("norm", lambda: module.function("norm", "ppi", body))
