"""S6 on a CPU, forward.

A unit of work is a block of sequences of about `TOKENS_OF_A_UNIT` tokens; where there are too few of them for all
threads, some of the vectors of channels; where these are too few, a segment of the tokens. With segments a phase before
computes what each segment alone does to a state that begins at zero, and its Σ Δ, which gives its decay.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.sequence import Share, head_blocks, segments
from m3sr_kernels.native.vector_math import exp2, silu, softplus
from m3sr_kernels.s6_scan.native_tokens import Channels, Tokens, entry, flag

TOKENS_OF_A_UNIT = 256
CHUNK = 32  # tokens that all vectors of channels go through before the next ones


class Forward(Tokens):
    """y."""

    phase_names = ("states", "outputs")

    def __init__(self, states: int, gated: int) -> None:
        super().__init__(states, gated)
        self.signature = Signature(self.inputs, {"y": "M L D"})

    def _sequences(self, k: Code, job: Job) -> Value:
        """Of a unit."""
        return k.maximum(k.int(TOKENS_OF_A_UNIT) / job.L, 1)

    def _partition(self, k: Code, job: Job) -> tuple[Value, Value, Value]:
        """Blocks of sequences, blocks of vectors of channels, segments."""
        at_once = self._sequences(k, job)
        sequences = (job.M + at_once - 1) / at_once
        vectors = head_blocks(k, sequences, self.vectors(job), job.threads)
        return sequences, vectors, segments(k, sequences * vectors, (job.L + (CHUNK - 1)) / CHUNK, job.threads)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """States of the segments, outputs."""
        sequences, vectors, parts = self._partition(k, job)
        units = sequences * vectors * parts
        return [k.select(parts > 1, units, k.int(0)), units]

    def shared(self, k: Code, job: Job) -> Value:
        """The states of every segment, and the sum of its Δ."""
        parts = self._partition(k, job)[2]
        return k.select(parts > 1, job.M * parts * self.vectors(job) * self._entry(job), k.int(0))

    def scratch(self, k: Code, job: Job) -> Value:
        """The states of all vectors of channels."""
        return self.vectors(job) * self.state(job)

    def _entry(self, job: Job) -> int:
        return self.state(job) + job.lanes

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit of a phase."""
        _, blocks, parts = self._partition(k, job)
        share = Share.of(unit, self.vectors(job), blocks, parts)
        begin, end = self.span(k, job, share.segment, parts, CHUNK)
        first, at_once = share.batch * self._sequences(k, job), self._sequences(k, job)
        size = self._entry(job) if phase == 0 else self.state(job)
        with k.loop(k.minimum(first + at_once, job.M), start=first) as sequence:
            place = scratch
            if phase == 0:
                place = entry(job, job.shared, size, sequence, share.segment, parts, share.first_head)
                k.fill(place, (share.last_head - share.first_head) * size)
            else:
                self._enter(module, k, job, share, sequence, scratch)
            with (
                k.loop(end, start=begin, step=CHUNK) as t,
                k.loop(share.last_head - share.first_head) as vector,
            ):
                state, count = place + vector * size, k.minimum(end - t, CHUNK)
                function = self.states_function(module) if phase == 0 else self._outputs_function(module)
                places = (state, state) if phase == 0 else (state,)
                row = sequence * job.L + t
                k.call(function, job.pointer, row, count, share.first_head + vector, *places, flag(k, t.equals(0)))

    def _enter(self, module: Module, k: Code, job: Job, share: Share, sequence: Value, states: Value) -> None:
        """The states with which a segment begins: through those before it, one after the other."""
        size, vectors = self.state(job), share.last_head - share.first_head
        with k.when(share.segment > 0):
            k.fill(states, vectors * size)
        with k.loop(share.segment) as before, k.loop(vectors) as own:
            vector, state = share.first_head + own, states + own * size
            kept = entry(job, job.shared, self._entry(job), sequence, before, share.segments, vector)
            elapsed, channels = k.load(kept, size), Channels(k, job, vector)
            for n in range(self.states):
                decay = exp2(k, elapsed * channels.parameter("rates", n))
                place = n * k.lanes
                k.store(k.fma(decay, k.load(state, place), k.load(kept, place)), state, place)

    def _outputs_function(self, module: Module) -> ir.Function:
        """outputs(job, row, count, vector, state, first): y of a chunk."""

        def body(k: Code, pointer: Value, row: Value, count: Value, vector: Value, state: Value, first: Value) -> None:
            job = Job(k, pointer, self.signature)
            own, states = Channels(k, job, vector), self.load_states(k, state)

            def token(t: Value, decayed: bool) -> None:
                step, x = softplus(k, own.raw_step(row + t)), own.load("x", row + t)
                self.advance(k, job, own, row + t, states, step, x, decayed=decayed)
                y = self.output(k, job, own, row + t, states, x)
                own.store(y * silu(k, own.load("z", row + t)) if self.gated else y, "y", row + t)

            self.each_token(k, count, first, token)
            self.store_states(k, states, state)

        return module.once("outputs", lambda: module.function("outputs_of_chunk", "piiipi", body))
