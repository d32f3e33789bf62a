"""Sequences as the compiled kernels of `ssd_scan` see them: heads that share b and c are one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from m3sr_kernels.native import scan
from m3sr_kernels.native.assembler import Code, Value
from m3sr_kernels.native.job import Job
from m3sr_kernels.native.recurrence import vectors_at_once
from m3sr_kernels.native.sequence import Share

STATE = "B H P N"


class Line(scan.Geometry):
    """One direction over L elements; a batch entry is a group of a sequence."""

    inputs: ClassVar = {
        "x": "B L H P",
        "dt": "B L H",
        "a": "H",
        "b": "B L G N",
        "c": "B L G N",
        "d": "H P",
        "dt_bias": "H",
    }
    passes: ClassVar = (((0,), False),)

    def sizes(self, job: Job) -> tuple[Value, Value, Value, Value]:
        """Groups of all sequences, elements, heads of a group, channels a head."""
        return job.B * job.G, job.L, job.H / job.G, job.P

    def constraints(self, job: Job) -> Sequence[Value]:
        """Groups have the same number of heads."""
        return [(job.H % job.G).equals(0)]

    def channels(self, job: Job, name: str, batch: Value) -> tuple[Value, Value]:
        """Of x, y, dx, dy."""
        return job[name] + (batch / job.G * job.L * job.H + self._first_head(job, batch)) * job.P, job.H * job.P

    def maps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """Of b, c and their gradients."""
        del direction
        return job[name] + (batch / job.G * job.L * job.G + batch % job.G) * job.N, job.G * job.N

    def steps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """Of dt and its gradient."""
        del direction
        return job[name] + batch / job.G * job.L * job.H + self._first_head(job, batch), job.H

    def parameter(self, job: Job, batch: Value, direction: Value, head: Value) -> Value:
        """Of a and dt_bias."""
        del direction
        return self._first_head(job, batch) + head

    def parameter_count(self, job: Job) -> Value:
        """Of a and dt_bias."""
        return job.H

    def skip_count(self, job: Job) -> Value:
        """Of d."""
        return job.H * job.P

    def skip(self, job: Job, batch: Value, head: Value) -> Value:
        """Of d."""
        return (self._first_head(job, batch) + head) * job.P

    def state(self, job: Job, name: str, batch: Value, head: Value) -> Value:
        """Of a state's P·N numbers."""
        return job[name] + (batch / job.G * job.H + self._first_head(job, batch) + head) * job.P * job.N

    def order(self, k: Code, job: Job, direction: Value, columns: bool | Value) -> tuple[Value, Value, Value, Value]:
        """One line."""
        del direction, columns
        return job.L, k.int(1), k.int(0), k.int(0)

    def _first_head(self, job: Job, batch: Value) -> Value:
        return batch % job.G * (job.H / job.G)


class Forward(scan.Forward):
    """y and the last state."""

    def __init__(self, states: int) -> None:
        super().__init__(Line(), states, {"y": Line.inputs["x"], "state": STATE})

    def finish(self, k: Code, job: Job, share: Share, states: Value, entry: Value) -> None:
        """Writes the states with which the last segment ends."""
        at_once = vectors_at_once(k.owner, self.states)
        block = at_once * k.lanes
        last = k.select((share.segment + 1).equals(share.segments), k.int(1), k.int(0))
        heads = (share.last_head - share.first_head) * last
        with k.loop(heads) as own, k.loop(job.P) as p, k.loop(self.states) as n:
            place = p / block * (block * self.states) + n * block + p % block
            target = Line().state(job, "state", share.batch, share.first_head + own)
            k.store(k.scalar(states + own * entry, place), target, p * self.states + n)
