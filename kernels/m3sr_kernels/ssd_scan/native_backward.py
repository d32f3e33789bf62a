"""Sequences on a CPU, backward."""

from __future__ import annotations

from m3sr_kernels.native import scan_gradient
from m3sr_kernels.native.assembler import Code, Value
from m3sr_kernels.native.job import Job
from m3sr_kernels.native.sequence import Share
from m3sr_kernels.ssd_scan.native_forward import STATE, Line


class Backward(scan_gradient.Backward):
    """Gradients from those of y and of the last state."""

    def __init__(self, states: int) -> None:
        super().__init__(Line(), states, {"dy": Line.inputs["x"], "dstate": STATE})

    def start_adjoints(self, k: Code, job: Job, share: Share, adjoints: Value) -> None:
        """The last state's."""
        super().start_adjoints(k, job, share, adjoints)
        width = self._width(k, job)
        with k.loop(share.last_head - share.first_head) as own, k.loop(job.P) as p, k.loop(self.states) as n:
            source = Line().state(job, "dstate", share.batch, share.first_head + own)
            target = adjoints + own * self._state(k, job)
            k.store(k.scalar(source, p * self.states + n), target, n * width + p)
