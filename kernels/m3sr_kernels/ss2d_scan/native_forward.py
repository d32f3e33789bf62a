"""Pixels of an image as the compiled kernels of `ss2d_scan` see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from m3sr_kernels.native import scan
from m3sr_kernels.native.assembler import Code, Value
from m3sr_kernels.native.job import Job


class Image(scan.Geometry):
    """Four directions over the pixels: 0 row by row, 1 column by column, 2 and 3 the same backwards.

    d is the sum of the skips over the directions.
    """

    inputs: ClassVar = {
        "x": "B H W I",
        "dt": "B H W 4 R",
        "a": "4 R",
        "b": "B H W 4 N",
        "c": "B H W 4 N",
        "d": "R P",
        "dt_bias": "4 R",
    }
    passes: ClassVar = (((0, 2), False), ((1, 3), True))

    def sizes(self, job: Job) -> tuple[Value, Value, Value, Value]:
        """Images, pixels, heads, channels a head."""
        return job.B, job.H * job.W, job.R, job.P

    def constraints(self, job: Job) -> Sequence[Value]:
        """Heads fill the channels."""
        return [job.I.equals(job.R * job.P)]

    def channels(self, job: Job, name: str, batch: Value) -> tuple[Value, Value]:
        """Of x, y, dx, dy."""
        return job[name] + batch * job.H * job.W * job.I, job.I

    def maps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """Of b and c; of their gradients, which have a part a block of heads, if `batch` counts parts too."""
        return job[name] + (batch * job.H * job.W * 4 + direction) * job.N, job.N * 4

    def steps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """Of dt."""
        return job[name] + (batch * job.H * job.W * 4 + direction) * job.R, job.R * 4

    def parameter(self, job: Job, batch: Value, direction: Value, head: Value) -> Value:
        """Of a and dt_bias."""
        return direction * job.R + head

    def parameter_count(self, job: Job) -> Value:
        """Of a and dt_bias."""
        return job.R * 4

    def skip_count(self, job: Job) -> Value:
        """Of d."""
        return job.R * job.P

    def skip(self, job: Job, batch: Value, head: Value) -> Value:
        """Of d."""
        return head * job.P

    def order(self, k: Code, job: Job, direction: Value, columns: bool | Value) -> tuple[Value, Value, Value, Value]:
        """Rows are one line after the other, so all of them are one long line."""
        pixels, backwards = job.H * job.W, direction / 2
        if isinstance(columns, bool):
            inner, inside, between = (job.H, job.W, k.int(1)) if columns else (pixels, k.int(1), k.int(0))
        else:
            choices = ((job.H, pixels), (job.W, k.int(1)), (k.int(1), k.int(0)))
            inner, inside, between = (k.select(columns, yes, no) for yes, no in choices)
        return inner, inside, between, backwards


class Forward(scan.Forward):
    """y."""

    def __init__(self, states: int) -> None:
        super().__init__(Image(), states, {"y": Image.inputs["x"]})
