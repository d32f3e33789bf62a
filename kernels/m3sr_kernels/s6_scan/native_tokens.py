"""S6 on a CPU: one vector of channels walks along the tokens of a sequence, its N states side by side in registers.

Parameters come padded to whole vectors, E channels for D real ones; `rates` is a·log₂ e with the states first. The
first token of a sequence needs no decay, which for M3SR's four tokens is a quarter of all exponentials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Cell, Code, Module, Operand, Value
from m3sr_kernels.native.job import Job, Kernel
from m3sr_kernels.native.vector_math import exp2, softplus


class Channels:
    """One vector of channels: what a kernel reads and writes of it. Rows are tokens of all sequences."""

    def __init__(self, k: Code, job: Job, vector: Value) -> None:
        self._k, self._job, self._first = k, job, vector * k.lanes
        self._mask = k.lanes_below(job.D - self._first)

    def load(self, name: str, row: Value) -> Value:
        """Of an array (M, L, D), zero beyond its channels."""
        return self._k.load_masked(self._mask, self._job[name] + row * self._job.D, self._first)

    def store(self, value: Value, name: str, row: Value) -> None:
        """The same."""
        self._k.store_masked(self._mask, value, self._job[name] + row * self._job.D, self._first)

    def parameter(self, name: str, number: int = 0) -> Value:
        """Of a row of a padded array."""
        return self._k.load(self._job[name] + self._job.E * number, self._first)

    def raw_step(self, row: Value) -> Value:
        """dt + dt_bias."""
        return self.load("dt", row) + self.parameter("dt_bias")


class Tokens(Kernel):
    """What both kernels share: N states, and whether there is a gate z, are compiled in."""

    def __init__(self, states: int, gated: int) -> None:
        self.states, self.gated = states, bool(gated)
        self.inputs = {"x": "M L D", "dt": "M L D", "b": "M L N", "c": "M L N"}
        self.inputs |= {"rates": "N E", "d": "E", "dt_bias": "E"} | ({"z": "M L D"} if gated else {})

    def constraints(self, job: Job) -> Sequence[Value]:
        """N is the one that is compiled in; parameters have whole vectors of channels."""
        return [job.N.equals(self.states), (job.E % job.lanes).equals(0), job.D <= job.E]

    def vectors(self, job: Job) -> Value:
        """Of a token's channels."""
        return job.E / job.lanes

    def state(self, job: Job) -> int:
        """Float32 numbers of the states of one vector of channels."""
        return self.states * job.lanes

    def span(self, k: Code, job: Job, segment: Value, segments: Value, chunk: int) -> tuple[Value, Value]:
        """The tokens of a segment, which is whole chunks."""
        chunks = (job.L + (chunk - 1)) / chunk
        return chunks * segment / segments * chunk, k.minimum(chunks * (segment + 1) / segments * chunk, job.L)

    def advance(
        self,
        k: Code,
        job: Job,
        own: Channels,
        row: Value,
        states: Sequence[Cell],
        step: Value,
        x: Value,
        *,
        decayed: bool = True,
        keep: Callable[[int, Value], None] = lambda *_: None,
    ) -> None:
        """Takes the states through one token; `keep` gets a state's number and decay."""
        fed, gains = step * x, job["b"] + row * self.states
        for n, cell in enumerate(states):
            decay = exp2(k, step * own.parameter("rates", n)) if decayed else k.zero()
            gained = k.broadcast(gains, n) * fed
            cell.set(k.fma(decay, cell.get(), gained) if decayed else gained)
            keep(n, decay)

    def output(self, k: Code, job: Job, own: Channels, row: Value, states: Sequence[Cell], x: Value) -> Value:
        """Σ_n c_n·h_n + d·x."""
        sums, maps = [k.zero(), own.parameter("d") * x], job["c"] + row * self.states
        for n, cell in enumerate(states):
            sums[n % 2] = k.fma(k.broadcast(maps, n), cell.get(), sums[n % 2])
        return sums[0] + sums[1]

    def each_token(self, k: Code, count: Value, first: Value, token: Callable[[Value, bool], None]) -> None:
        """Calls `token(number, decayed)` for a chunk; a sequence's `first` chunk (1, else 0) begins without a decay."""
        with k.when(first.equals(1)):
            token(k.int(0), False)
        with k.loop(count, start=first) as t:
            token(t, True)

    def states_function(self, module: Module) -> ir.Function:
        """states(job, row, count, vector, source, target, first): the states after a chunk, then the sum of its Δ.

        `target` may be `source`. The sum is added to what stands in `source` behind the states.
        """

        def body(k: Code, pointer: Value, row, count, vector, source: Value, target: Value, first: Value) -> None:
            job = Job(k, pointer, self.signature)
            own, size = Channels(k, job, vector), self.state(job)
            states = self.load_states(k, source)
            elapsed = k.cell(k.load(source, size))

            def token(t: Value, decayed: bool) -> None:
                step = softplus(k, own.raw_step(row + t))
                self.advance(k, job, own, row + t, states, step, own.load("x", row + t), decayed=decayed)
                elapsed.add(step)

            self.each_token(k, count, first, token)
            self.store_states(k, states, target)
            k.store(elapsed.get(), target, size)

        return module.once("states", lambda: module.function("states_of_chunk", "piiippi", body))

    def load_states(self, k: Code, source: Value) -> list[Cell]:
        """One vector a state."""
        return [k.cell(k.load(source, n * k.lanes)) for n in range(self.states)]

    def store_states(self, k: Code, states: Sequence[Cell], target: Value) -> None:
        """The same."""
        for n, cell in enumerate(states):
            k.store(cell.get(), target, n * k.lanes)


def flag(k: Code, condition: Value) -> Value:
    """1 if it holds, else 0."""
    return k.select(condition, k.int(1), 0)


def entry(job: Job, base: Value, size: int, sequence: Operand, segment: Operand, segments: Value, vector: Value):
    """Where the first phase keeps what a segment does to one vector of channels."""
    return base + ((sequence * segments + segment) * (job.E / job.lanes) + vector) * size
