"""The gradients of group norm and SiLU on a CPU.

With n the normed numbers, z = n·scale + bias, s = dy·SiLU'(z) and g = s·scale: dscale = Σ s·n, dbias = Σ s and
dx = (g − mean(g) − n·mean(g·n))/√(variance + ε). The sums over a group follow from those over its channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from m3sr_kernels.group_norm_silu.native_forward import GroupNorm
from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.vector_math import silu_and_slope


class Backward(GroupNorm):
    """The gradients of x, scale and bias; that of the shortcut is dy."""

    signature = Signature(
        {"x": "B L C", "scale": "C", "bias": "C", "dy": "B L C"}, {"dx": "B L C", "dscale": "C", "dbias": "C"}
    )
    phase_names = ("blocks", "channels", "groups", "slopes", "channel sums", "group sums", "gradients", "parameters")

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Those of the moments, the same for the sums, then blocks, then vectors of channels."""
        moments = self.moment_phases(k, job)
        return [*moments, *moments, moments[0], self.vectors(job)]

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit."""
        if phase < 3:
            self.run_moments(phase, k, job, unit)
        else:
            (self._slopes, self._channel_sums, self._group_sums, self._gradients, self._parameters)[phase - 3](
                k, job, unit
            )

    def _slopes(self, k: Code, job: Job, unit: Value) -> None:
        """Writes s to dx, and the block's sums of s and s·n."""
        image, first, count = self.place(k, job, unit)
        arrays = self.arrays(k, job, job.shared)
        with k.vectors(job.C) as (o, _):
            mean, rate = (k.load(array, image * job.C + o) for array in arrays.groups[:2])
            scale, bias = k.load(job["scale"], o), k.load(job["bias"], o)
            source, given, out = (job[name] + first + o for name in ("x", "dy", "dx"))
            by_bias, by_scale = k.cell(k.zero()), k.cell(k.zero())
            with k.loop(count) as pixel:
                place = pixel * job.C
                normed = (k.load(source, place) - mean) * rate
                slope = k.load(given, place) * silu_and_slope(k, k.fma(normed, scale, bias))[1]
                k.store(slope, out, place)
                by_bias.add(slope)
                by_scale.set(k.fma(slope, normed, by_scale.get()))
            for total, target in zip((by_bias, by_scale), arrays.blocks, strict=True):
                k.store(total.get(), target, unit * job.C + o)

    def _channel_sums(self, k: Code, job: Job, unit: Value) -> None:
        """The blocks' sums in their order."""
        arrays, blocks = self.arrays(k, job, job.shared), self.blocks(k, job)
        image, o = unit / self.vectors(job), k.minimum(unit % self.vectors(job) * k.lanes, job.C - k.lanes)
        for source, target in zip(arrays.blocks, arrays.channels, strict=True):
            total = k.cell(k.zero())
            with k.loop(blocks) as block:
                total.add(k.load(source, (image * blocks + block) * job.C + o))
            k.store(total.get(), target, image * job.C + o)

    def _group_sums(self, k: Code, job: Job, image: Value) -> None:
        """mean(g) and mean(g·n) of an image's groups."""
        arrays, size = self.arrays(k, job, job.shared), k.to_float(job.L * (job.C / self.num_groups))

        def means(first: Value, last: Value) -> list[Value]:
            sums = (array + image * job.C for array in arrays.channels)
            term = lambda source: lambda c: k.scalar(job["scale"], c) * k.scalar(source, c)  # noqa: E731
            return [self.sum_of(k, first, last, term(source)) / size for source in sums]

        self.spread(k, job, image, arrays.groups[2:], means)

    def _gradients(self, k: Code, job: Job, unit: Value) -> None:
        """dx from s, in place: lanes that a vector shares with the one before are done."""
        image, first, count = self.place(k, job, unit)
        groups = self.arrays(k, job, job.shared).groups
        with k.vectors(job.C) as (o, seen):
            done = k.lanes_below(seen)
            mean, rate, mean_slope, along = (k.load(array, image * job.C + o) for array in groups)
            scale = k.load(job["scale"], o)
            source, out = (job[name] + first + o for name in ("x", "dx"))
            with k.loop(count) as pixel:
                place = pixel * job.C
                slope, normed = k.load(out, place), (k.load(source, place) - mean) * rate
                k.store(k.select(done, slope, (slope * scale - mean_slope - normed * along) * rate), out, place)

    def _parameters(self, k: Code, job: Job, unit: Value) -> None:
        """The images' sums in their order."""
        o = k.minimum(unit * k.lanes, job.C - k.lanes)
        for source, name in zip(self.arrays(k, job, job.shared).channels, ("dbias", "dscale"), strict=True):
            total = k.cell(k.zero())
            with k.loop(job.B) as image:
                total.add(k.load(source, image * job.C + o))
            k.store(total.get(), job[name], o)
