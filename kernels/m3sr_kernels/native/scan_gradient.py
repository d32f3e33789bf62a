"""Scans with one decay a head (SSD), backward: the partition of the work, and what passes between chunks.

A first pass over a segment keeps the state on entry of every chunk; a second one, from the last chunk to the first,
computes all gradients. `chunk_gradient` does one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.chunk_gradient import Chunk
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.scan import Geometry
from m3sr_kernels.native.sequence import Share
from m3sr_kernels.native.vector_math import exp2


class Backward(Chunk):
    """Gradients of a scan.

    dx sums over directions, db and dc over heads. So that no two units add to the same numbers at once, there are at
    most as many blocks of heads as directions, and in turn t block i works on direction (t + i) mod K: each block
    on one direction, each direction by one block.
    """

    def __init__(self, geometry: Geometry, states: int, cotangents: dict[str, str]) -> None:
        super().__init__(geometry, states)
        gradients = {f"d{name}": shape for name, shape in geometry.inputs.items()}
        self.signature = Signature({**geometry.inputs, **cotangents}, gradients)
        self.phase_names = ("states", *(f"turn_{number}" for number in range(self.directions)), "sums")

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """States of every direction's segments, the turns, sums over sequences and segments."""
        parts = self._parts(k, job)
        units = self.geometry.sizes(job)[0] * self._blocks(k, job) * parts
        return [k.select(parts > 1, units * self.directions, k.int(0)), *([units] * self.directions), k.int(1)]

    # Memory.
    def _entry(self, k: Code, job: Job) -> Value:
        """What the first phase keeps: a state, an adjoint, a vector of the decay."""
        return self._state(k, job) * 2 + k.lanes

    def _summand(self, k: Code, job: Job) -> Value:
        """What a unit adds to the parameters of a head: to a and dt_bias, a vector each, and to d."""
        return self._width(k, job) + 2 * k.lanes

    def _records(self, k: Code, job: Job) -> Value:
        batches, _, heads, _ = self.geometry.sizes(job)
        return batches * self.directions * self._parts(k, job) * heads

    def shared(self, k: Code, job: Job) -> Value:
        """For every sequence, direction, segment and head: summands, then entries if there are segments."""
        entries = k.select(self._parts(k, job) > 1, self._entry(k, job), k.int(0))
        return self._records(k, job) * (self._summand(k, job) + entries)

    def _record(self, k: Code, job: Job, batch, direction, parts, segment, head) -> Value:
        return ((batch * self.directions + direction) * parts + segment) * self.geometry.sizes(job)[2] + head

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None).total

    # Phases.
    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit of a phase."""
        parts = self._parts(k, job)
        heads = self.geometry.sizes(job)[2]
        if phase == len(self.phase_names) - 1:
            self._add_parameters(k, job)
        elif phase == 0:
            rest = unit / self.directions
            direction = unit % self.directions
            share, columns = Share.of(rest, heads, self._blocks(k, job), parts), self.columns(k, direction)
            arrays = self._arrays(k, job, scratch)
            self._clear(k, job, share, arrays.states)
            self._through_states(module, k, job, share, direction, columns, scratch, keep=False)
            self._clear(k, job, share, arrays.adjoints)
            self._through_adjoints(module, k, job, share, direction, columns, scratch)
            self._keep(k, job, share, direction, arrays)
        else:
            k.call(self._turn_function(module), job.pointer, scratch, unit, phase - 1)

    def _turn_function(self, module: Module) -> ir.Function:
        """turn(job, scratch, unit, number): one direction of a unit."""

        def body(k: Code, pointer: Value, scratch: Value, unit: Value, turn: Value) -> None:
            job, K = Job(k, pointer, self.signature), self.directions
            blocks = self._blocks(k, job)
            share = Share.of(unit, self.geometry.sizes(job)[2], blocks, self._parts(k, job))
            visited = k.int(0).equals(1)  # whether another block has had this direction
            for earlier in range(1, K):
                visited = visited | ((turn >= earlier) & ((share.block + earlier) % K < blocks))
            direction = (turn + share.block) % K
            self._direction(module, k, job, share, direction, scratch, turn.equals(0), ~visited)

        return module.once("turn", lambda: module.function("turn", "ppii", body))

    def _clear(self, k: Code, job: Job, share: Share, states: Value) -> None:
        k.fill(states, (share.last_head - share.first_head) * self._state(k, job))

    def _direction(self, module, k, job, share, direction, scratch, first, first_maps) -> None:
        """Gradients by one direction.

        `first` writes dx, with the skip's part, where later turns add; `first_maps` writes db and dc.
        """
        columns = self.columns(k, direction)
        arrays, state = self._arrays(k, job, scratch), self._state(k, job)
        heads = share.last_head - share.first_head
        self._enter(k, job, share, direction, arrays.states, backwards=False)
        self._through_states(module, k, job, share, direction, columns, scratch, keep=True)
        self.start_adjoints(k, job, share, arrays.adjoints)
        self._enter(k, job, share, direction, arrays.adjoints, backwards=True)
        with k.loop(heads) as own:
            k.fill(self._summands(k, job, share, direction, share.first_head + own), self._summand(k, job))
        order = self.walk(k, job, share, direction, columns)
        streams = self._streams(k, job, share, direction, columns, ("x", "dy", "dx"), "bc")
        with order.visit(module, k, arrays.tables, streams, reverse=True) as (number, pixels, count):
            self._load_maps(module, k, job, share, direction, pixels, count, arrays)
            self._products_of_maps(module, k, arrays)
            k.fill(arrays.map_gradients, arrays.map_row * k.lanes)
            with k.loop(heads) as own:
                entering = arrays.entering + (number * heads + own) * state
                k.call(
                    self._head_function(module),
                    *(job.pointer, scratch, pixels, count, share.batch, direction, share.first_head + own),
                    *(entering, arrays.adjoints + own * state, own, k.select(first, k.int(1), k.int(0))),
                    self._summands(k, job, share, direction, share.first_head + own),
                )
            self._store_map_gradients(module, k, job, share, direction, pixels, count, arrays, first_maps)

    def start_adjoints(self, k: Code, job: Job, share: Share, adjoints: Value) -> None:
        """The adjoint of the state after the last element: zero unless an op returns that state."""
        self._clear(k, job, share, adjoints)

    def _streams(self, k, job, share, direction, columns, channels, maps) -> list[tuple[Value, Value, Value]]:
        """What to prefetch: nothing along rows, where the hardware does."""
        geometry, streams = self.geometry, []
        one = k.select(columns, k.int(1), k.int(0))
        P = geometry.sizes(job)[3]
        for name in channels:
            base, stride = geometry.channels(job, name, share.batch)
            streams.append((base + share.first_head * P, stride, one * (share.last_head - share.first_head) * P))
        for name in maps:
            streams.append((*geometry.maps(job, name, share.batch, direction), one))
        return [*streams, (*geometry.steps(job, "dt", share.batch, direction), one)]

    # States and adjoints between chunks.
    def _through_states(self, module, k, job, share, direction, columns, scratch, *, keep) -> None:
        """Advances the states over a segment; with `keep` each chunk's stay in `entering`, else decays add up."""
        arrays, state = self._arrays(k, job, scratch), self._state(k, job)
        heads = share.last_head - share.first_head
        order = self.walk(k, job, share, direction, columns)
        streams = self._streams(k, job, share, direction, columns, ("x",), "b")
        if not keep:
            with k.loop(heads) as own:
                k.store(k.zero(), self._entries(k, job, share, direction, share.segment, share.first_head + own))
        with order.visit(module, k, arrays.tables, streams) as (number, pixels, count):
            self._load_maps(module, k, job, share, direction, pixels, count, arrays)
            with k.loop(heads) as own:
                current = arrays.states + own * state
                if keep:
                    with k.loop(state, step=k.lanes) as i:
                        k.store(k.load(current, i), arrays.entering + (number * heads + own) * state, i)
                head = share.first_head + own
                self._load_steps(module, k, job, share.batch, direction, head, pixels, count, arrays)
                self._gather(k, job, "x", share.batch, head, pixels, count, arrays.x)
                self._advance(k, job, arrays, current, arrays.maps, arrays.x, step_and_rest=True)
                if not keep:
                    kept = self._entries(k, job, share, direction, share.segment, head)
                    k.accumulate(k.load(arrays.steps, 2 * k.lanes), kept)

    def _through_adjoints(self, module, k, job, share, direction, columns, scratch) -> None:
        """What a segment alone makes of a zero adjoint."""
        arrays, state = self._arrays(k, job, scratch), self._state(k, job)
        heads = share.last_head - share.first_head
        order = self.walk(k, job, share, direction, columns)
        with order.visit(module, k, arrays.tables, reverse=True) as (_, pixels, count):
            self._load_maps(module, k, job, share, direction, pixels, count, arrays)
            with k.loop(heads) as own:
                head = share.first_head + own
                self._load_steps(module, k, job, share.batch, direction, head, pixels, count, arrays)
                self._gather(k, job, "dy", share.batch, head, pixels, count, arrays.dy)
                own_state = arrays.adjoints + own * state
                self._advance(k, job, arrays, own_state, arrays.maps + self.states, arrays.dy, step_and_rest=False)

    def _entries(self, k, job, share, direction, segment, head) -> Value:
        """What the first phase keeps stands after all summands: first the decay."""
        record = self._record(k, job, share.batch, direction, share.segments, segment, head)
        return job.shared + self._records(k, job) * self._summand(k, job) + record * self._entry(k, job)

    def _summands(self, k, job, share, direction, head) -> Value:
        record = self._record(k, job, share.batch, direction, share.segments, share.segment, head)
        return job.shared + record * self._summand(k, job)

    def _keep(self, k, job, share, direction, arrays) -> None:
        state = self._state(k, job)
        with k.loop(share.last_head - share.first_head) as own:
            kept = self._entries(k, job, share, direction, share.segment, share.first_head + own)
            k.store(exp2(k, k.splat(k.sum_lanes(k.load(kept)))), kept)
            with k.loop(state, step=k.lanes) as i:
                k.store(k.load(arrays.states + own * state, i), kept, i + k.lanes)
                k.store(k.load(arrays.adjoints + own * state, i), kept + state, i + k.lanes)

    def _enter(self, k, job, share, direction, states, *, backwards: bool) -> None:
        """Takes states, or adjoints, from one end of the sequence to the segment; states begin at zero."""
        state = self._state(k, job)
        if not backwards:
            self._clear(k, job, share, states)
        behind, _ = self.before(k, job, share, direction, k.int(0))
        count = share.segments - 1 - behind if backwards else behind
        with k.loop(count) as i, k.loop(share.last_head - share.first_head) as own:
            number = share.segments - 1 - i if backwards else i
            _, segment = self.before(k, job, share, direction, number)
            kept = self._entries(k, job, share, direction, segment, share.first_head + own)
            decay, source = k.load(kept), kept + k.lanes + (state if backwards else 0)
            with k.loop(state, step=k.lanes) as place:
                target = states + own * state
                k.store(k.fma(decay, k.load(target, place), k.load(source, place)), target, place)

    # The parameters' gradients.
    def _add_parameters(self, k: Code, job: Job) -> None:
        """Sums over sequences, directions and segments, in this order."""
        batches, _, heads, P = self.geometry.sizes(job)
        parts, copies = self._parts(k, job), self.geometry.parameter_count(job)
        for name, count in (("da", copies), ("ddt_bias", copies), ("dd", self.geometry.skip_count(job))):
            with k.loop(count) as i:
                k.store(k.float(0.0), job[name], i)
        with (
            k.loop(batches) as batch,
            k.loop(self.directions) as direction,
            k.loop(parts) as segment,
            k.loop(heads) as head,
        ):
            record = self._record(k, job, batch, direction, parts, segment, head)
            summands = job.shared + record * self._summand(k, job)
            index = self.geometry.parameter(job, batch, direction, head)
            for name, place in (("da", 0), ("ddt_bias", k.lanes)):
                total = k.scalar(job[name], index) + k.sum_lanes(k.load(summands, place))
                k.store(total, job[name], index)
            target = job["dd"] + self.geometry.skip(job, batch, head)
            with k.loop(P) as p:
                k.store(k.scalar(target, p) + k.scalar(summands, p + 2 * k.lanes), target, p)
