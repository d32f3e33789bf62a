"""The block on a CPU, forward."""

from __future__ import annotations

import types
from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.mamba_token_mix.native_block import WEIGHTS, Mixer
from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.memory import Arena
from m3sr_kernels.native.vector_math import silu, softplus


class Forward(Mixer):
    """The block itself."""

    phase_names = ("mix",)

    def __init__(self, tokens: int, states: int, taps: int) -> None:
        super().__init__(tokens, states, taps)
        self.signature = Signature({"tokens": "M L C"} | WEIGHTS, {"out": "M L C"})

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """A unit is a block of sequences."""
        return [self.count(k, job)]

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None).total

    def _arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        arena = Arena(k, block)
        return types.SimpleNamespace(
            tokens=arena.take(job.O * self.rows),
            inner=arena.take(job.U * self.rows),
            projected=arena.take(job.Q * self.rows),
            carried=arena.take(self.states * k.lanes),
            total=arena.total,
        )

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One block of sequences."""
        s = self._arrays(k, job, scratch)
        count = self.load_tokens(module, k, job, unit, "tokens", s.tokens)
        self.project(k, s.inner, job.U, s.tokens, job.O, job["w_in"], job.U, job.C, job.U)
        k.call(self.convolve_function(module), job.pointer, s.inner, job.U, s.inner, job.U)
        self.project(k, s.projected, job.Q, s.inner, job.U, job["w_x"], job.Q, job.E, job.Q)
        k.call(self._scan_function(module), job.pointer, s.inner, s.projected, s.carried)
        self.project(k, s.tokens, job.O, s.inner, job.U, job["w_out"], job.O, job.E, job.O)
        self.store_tokens(module, k, job, unit, "out", s.tokens, count)

    def _scan_function(self, module: Module) -> ir.Function:
        """scan(job, inner, projected, carried): the scan, the skip and the gate, in place."""

        def body(k: Code, pointer: Value, inner: Value, projected: Value, carried: Value) -> None:
            job = Job(k, pointer, self.signature)
            with k.loop(self.sequences) as m, k.loop(job.E, step=k.lanes) as d:
                rows, maps = inner + m * job.U * self.tokens + d, projected + m * job.Q * self.tokens
                row = lambda t: rows + job.U * t  # noqa: E731
                map_of = lambda t: maps + job.Q * t  # noqa: E731
                for block in self.blocks():
                    steps = [softplus(k, self.raw_step(k, job, map_of(t), d)) for t in block]
                    inputs = [k.load(row(t)) for t in block]
                    y = self.scan_block(k, job, block, d, map_of, steps, inputs, carried)
                    for t, value in zip(block, y, strict=True):
                        k.store(value * silu(k, k.load(row(t), job.E)), row(t))

        return module.once("scan", lambda: module.function("scan", "pppp", body))
