"""The smallest kernel, y = 2·x: it shows that this process can compile kernels and that XLA takes them."""

from __future__ import annotations

from collections.abc import Sequence

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature


class Probe(Kernel):
    """Doubles N numbers, one unit a number."""

    signature = Signature({"x": "N"}, {"y": "N"})
    phase_names = ("double",)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """One unit a number."""
        return [job.N]

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """Doubles one."""
        k.store(k.scalar(job["x"], unit) * 2.0, job["y"], unit)


PROBE = Probe()
