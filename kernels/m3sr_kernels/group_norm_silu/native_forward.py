"""Group norm, SiLU and the shortcut on a CPU: a pass for the moments of blocks of pixels, and a pass for the result.

A block's pixels stay in the cache while its mean and then its squared differences from it are added up; the moments of
channels and groups follow from those of the blocks, without cancellation.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature
from m3sr_kernels.native.memory import Arena
from m3sr_kernels.native.vector_math import silu

BLOCK = 8192  # numbers of a block of pixels, about


class GroupNorm(Kernel):
    """What both kernels share: the moments, in three phases."""

    def __init__(self, num_groups: int, epsilon: float) -> None:
        self.num_groups, self.epsilon = num_groups, epsilon

    def constraints(self, job: Job) -> Sequence[Value]:
        """A vector of channels, at least, and whole groups."""
        return [job.lanes <= job.C, (job.C % self.num_groups).equals(0)]

    def pixels(self, k: Code, job: Job) -> Value:
        """Of a block."""
        return k.maximum(k.int(BLOCK) / job.C, 1)

    def blocks(self, k: Code, job: Job) -> Value:
        """Of an image."""
        pixels = self.pixels(k, job)
        return (job.L + (pixels - 1)) / pixels

    def vectors(self, job: Job) -> Value:
        """Of channels."""
        return (job.C + (job.lanes - 1)) / job.lanes

    def moment_phases(self, k: Code, job: Job) -> list[Value]:
        """Units: blocks, vectors of each image's channels, images."""
        return [job.B * self.blocks(k, job), job.B * self.vectors(job), job.B]

    def shared(self, k: Code, job: Job) -> Value:
        """See `arrays`."""
        return self.arrays(k, job, None).total

    def arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        """Two sums of each block and channel and of each image and channel; four numbers of its group for each channel.

        The sums are means and squared differences first, those of the gradient later. The numbers are mean and rate,
        then the gradient's means.
        """
        arena = Arena(k, block)
        of_blocks, of_images = job.B * self.blocks(k, job) * job.C, job.B * job.C
        return types.SimpleNamespace(
            blocks=[arena.take(of_blocks) for _ in range(2)],
            channels=[arena.take(of_images) for _ in range(2)],
            groups=[arena.take(of_images) for _ in range(4)],
            total=arena.total,
        )

    def run_moments(self, phase: int, k: Code, job: Job, unit: Value) -> None:
        """One unit of the first three phases."""
        (self._block_moments, self._channel_moments, self._group_moments)[phase](k, job, unit)

    def place(self, k: Code, job: Job, unit: Value) -> tuple[Value, Value, Value]:
        """A block's image, its first number within all images, and how many pixels it has."""
        pixels, blocks = self.pixels(k, job), self.blocks(k, job)
        image, first = unit / blocks, unit % blocks * pixels
        return image, (image * job.L + first) * job.C, k.minimum(pixels, job.L - first)

    def _block_moments(self, k: Code, job: Job, unit: Value) -> None:
        """Means of the channels, and the sums of squared differences from them."""
        _, first, count = self.place(k, job, unit)
        means, squares = (array + unit * job.C for array in self.arrays(k, job, job.shared).blocks)
        with k.vectors(job.C) as (o, _):
            source, total, square = job["x"] + first + o, k.cell(k.zero()), k.cell(k.zero())
            with k.loop(count) as pixel:
                total.add(k.load(source, pixel * job.C))
            mean = total.get() / k.to_float(count)
            with k.loop(count) as pixel:
                centred = k.load(source, pixel * job.C) - mean
                square.set(k.fma(centred, centred, square.get()))
            k.store(mean, means, o)
            k.store(square.get(), squares, o)

    def _channel_moments(self, k: Code, job: Job, unit: Value) -> None:
        """The same of an image's channels, a vector of them."""
        arrays, blocks = self.arrays(k, job, job.shared), self.blocks(k, job)
        image, o = unit / self.vectors(job), k.minimum(unit % self.vectors(job) * k.lanes, job.C - k.lanes)
        means, squares = (array + image * blocks * job.C + o for array in arrays.blocks)
        pixels, length = self.pixels(k, job), job.L
        count = lambda block: k.to_float(k.minimum(pixels, length - block * pixels))  # noqa: E731
        total, square = k.cell(k.zero()), k.cell(k.zero())
        with k.loop(blocks) as block:
            total.set(k.fma(k.load(means, block * job.C), count(block), total.get()))
        mean = total.get() / k.to_float(length)
        with k.loop(blocks) as block:
            centred = k.load(means, block * job.C) - mean
            square.add(k.fma(centred * centred, count(block), k.load(squares, block * job.C)))
        k.store(mean, arrays.channels[0], image * job.C + o)
        k.store(square.get(), arrays.channels[1], image * job.C + o)

    def _group_moments(self, k: Code, job: Job, image: Value) -> None:
        """Mean and 1/√(variance + ε) of an image's groups."""
        arrays = self.arrays(k, job, job.shared)
        means, squares = (array + image * job.C for array in arrays.channels)
        pixels, size = k.to_float(job.L), k.to_float(job.L * (job.C / self.num_groups))

        def moments(first: Value, last: Value) -> tuple[Value, Value]:
            mean = self.sum_of(k, first, last, lambda c: k.scalar(means, c)) / k.to_float(last - first)

            def square(c: Value) -> Value:
                centred = k.scalar(means, c) - mean
                return k.fma(centred * centred, pixels, k.scalar(squares, c))

            return mean, 1.0 / k.sqrt(self.sum_of(k, first, last, square) / size + self.epsilon)

        self.spread(k, job, image, arrays.groups[:2], moments)

    def sum_of(self, k: Code, first: Value, last: Value, term: Callable[[Value], Value]) -> Value:
        """The sum of a number for each channel from first to last."""
        total = k.cell(k.float(0.0))
        with k.loop(last, start=first) as c:
            total.add(term(c))
        return total.get()

    def spread(self, k: Code, job: Job, image: Value, targets: Sequence[Value], numbers: Callable) -> None:
        """Stores `numbers(first channel, last)` of every group for each of its channels."""
        width = job.C / self.num_groups
        with k.loop(self.num_groups) as group:
            values = numbers(group * width, (group + 1) * width)
            with k.loop((group + 1) * width, start=group * width) as c:
                for value, target in zip(values, targets, strict=True):
                    k.store(value, target, image * job.C + c)


class Forward(GroupNorm):
    """The op itself."""

    signature = Signature({"x": "B L C", "scale": "C", "bias": "C", "shortcut": "B L C"}, {"y": "B L C"})
    phase_names = ("blocks", "channels", "groups", "results")

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Those of the moments, then the blocks again."""
        return [*self.moment_phases(k, job), job.B * self.blocks(k, job)]

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit."""
        if phase < 3:
            self.run_moments(phase, k, job, unit)
            return
        image, first, count = self.place(k, job, unit)
        groups = self.arrays(k, job, job.shared).groups
        with k.vectors(job.C) as (o, _):
            mean, rate = (k.load(array, image * job.C + o) for array in groups[:2])
            scale, bias = k.load(job["scale"], o), k.load(job["bias"], o)
            source, shortcut, out = (job[name] + first + o for name in ("x", "shortcut", "y"))
            with k.loop(count) as pixel:
                place = pixel * job.C
                normed = (k.load(source, place) - mean) * rate
                k.store(silu(k, k.fma(normed, scale, bias)) + k.load(shortcut, place), out, place)
