"""The gradients of layer norm on a CPU: one pass over memory, and a sum for each channel in every slice of the rows.

With n the normed row and g = dy·scale: dx = (g − mean(g) − n·mean(g·n))/√(variance + ε).
"""

from __future__ import annotations

import types
from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.layer_norm.native_forward import Rows
from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.memory import Arena

SLICES = 16  # of the rows, each with sums of its own for scale and bias


class Backward(Rows):
    """The gradients of x, scale and bias."""

    signature = Signature(
        {"x": "M C", "scale": "C", "bias": "C", "dy": "M C"}, {"dx": "M C", "dscale": "C", "dbias": "C"}
    )
    phase_names = ("slices", "sums")

    def _slices(self, k: Code, job: Job) -> Value:
        return k.minimum(self.blocks(job), k.maximum(job.threads, SLICES))

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Slices of the rows, then vectors of channels."""
        return [self._slices(k, job), (job.C + (k.lanes - 1)) / k.lanes]

    def shared(self, k: Code, job: Job) -> Value:
        """Sums of every slice: those of scale, then those of bias."""
        return self._slices(k, job) * job.C * 2

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None).total

    def _arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        """Vectors kept of a block of rows, and two sums for each vector of channels."""
        arena = Arena(k, block)
        return types.SimpleNamespace(
            kept=arena.take(4 * k.lanes), sums=arena.take((job.C + k.lanes) * 2), total=arena.total
        )

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """The rows of a slice, or the sums of a vector of channels."""
        if phase == 1:
            self._add_slices(k, job, unit)
            return
        s, count, slices = self._arrays(k, job, scratch), self.blocks(job), self._slices(k, job)
        k.fill(s.sums, (job.C + (k.lanes - 1)) / k.lanes * (2 * k.lanes))
        with k.loop(count * (unit + 1) / slices, start=count * unit / slices) as block:
            first = self.first_row(k, job, block)
            k.call(self._block_function(module), job.pointer, scratch, first, block * k.lanes - first)
        with k.loop(job.C, step=k.lanes) as channel:
            o, target = k.minimum(channel, job.C - k.lanes), job.shared + unit * job.C * 2
            k.store(k.load(s.sums, channel * 2), target, o)
            k.store(k.load(s.sums, channel * 2 + k.lanes), target + job.C, o)

    def _block_function(self, module: Module) -> ir.Function:
        """back(job, scratch, first row, skipped): one block, without the rows that the block before has."""

        def body(k: Code, pointer: Value, scratch: Value, first: Value, skipped: Value) -> None:
            job = Job(k, pointer, self.signature)
            s = self._arrays(k, job, scratch)
            rows, given, out = (job[name] + first * job.C for name in ("x", "dy", "dx"))
            self.statistics(k, job, rows, s.kept)
            self._keep_means(k, job, rows, given, s.kept)
            with k.loop(job.C, step=k.lanes) as channel:
                o = k.minimum(channel, job.C - k.lanes)
                scale, sums = k.load(job["scale"], o), s.sums + channel * 2
                by_scale, by_bias = k.cell(k.load(sums)), k.cell(k.load(sums, k.lanes))
                with k.loop(k.lanes, start=skipped) as row:
                    place = row * job.C + o
                    normed, slope = self.normed(k, k.load(rows, place), s.kept, row), k.load(given, place)
                    mean, along = (k.broadcast(s.kept, row + i * k.lanes) for i in (2, 3))
                    rate = k.broadcast(s.kept, row + k.lanes)
                    k.store((slope * scale - mean - normed * along) * rate, out, place)
                    by_scale.set(k.fma(slope, normed, by_scale.get()))
                    by_bias.add(slope)
                k.store(by_scale.get(), sums)
                k.store(by_bias.get(), sums, k.lanes)

        return module.once("back", lambda: module.function("back", "ppii", body))

    def _keep_means(self, k: Code, job: Job, rows: Value, given: Value, kept: Value) -> None:
        """Keeps the vectors of mean(g) and mean(g·n), after the rows' means and rates."""

        def scaled(i: int, place: Value, o: Value) -> Value:
            return k.load(given, place) * k.load(job["scale"], o)

        def along(i: int, place: Value, o: Value) -> Value:
            return scaled(i, place, o) * (k.load(rows, place) - k.broadcast(kept, i))

        k.store(self.row_means(k, job, scaled), kept, 2 * k.lanes)
        k.store(self.row_means(k, job, along) * k.load(kept, k.lanes), kept, 3 * k.lanes)

    def _add_slices(self, k: Code, job: Job, unit: Value) -> None:
        """The slices' sums in their order."""
        o = k.minimum(unit * k.lanes, job.C - k.lanes)
        for i, name in enumerate(("dscale", "dbias")):
            total = k.cell(k.zero())
            with k.loop(self._slices(k, job)) as slice_:
                total.add(k.load(job.shared + (slice_ * 2 + i) * job.C, o))
            k.store(total.get(), job[name], o)
