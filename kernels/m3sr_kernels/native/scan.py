"""Scans with one decay a head (SSD), forward: the kernel, whatever the order in which the elements stand in memory.

A unit of work is one sequence, some of its heads and, where there are more threads than that gives, a segment of the
elements. With segments a phase before computes what each segment alone does to a state that begins at zero; from that
each computes the state that it begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature
from m3sr_kernels.native.memory import Arena
from m3sr_kernels.native.recurrence import recurrence_function, state_size
from m3sr_kernels.native.sequence import Share, Walk, head_blocks, segments, steps_function, store_decays
from m3sr_kernels.native.vector_math import exp2


class Geometry:
    """Where the elements of an op's sequences stand in memory.

    Attributes:
      inputs: shapes of x, dt, a, b, c, d and dt_bias, by name.
      passes: directions that units visit one after the other in each phase, and whether they go along columns.
    """

    inputs: Mapping[str, str]
    passes: Sequence[tuple[Sequence[int], bool]]

    def sizes(self, job: Job) -> tuple[Value, Value, Value, Value]:
        """Sequences, elements, heads, channels a head."""
        raise NotImplementedError

    def constraints(self, job: Job) -> Sequence[Value]:
        """Conditions on sizes beyond equal letters."""
        raise NotImplementedError

    def channels(self, job: Job, name: str, batch: Value) -> tuple[Value, Value]:
        """Where x, y and their like begin for a sequence, and the stride from element to element."""
        raise NotImplementedError

    def maps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """The same for b and c."""
        raise NotImplementedError

    def steps(self, job: Job, name: str, batch: Value, direction: Value) -> tuple[Value, Value]:
        """The same for dt."""
        raise NotImplementedError

    def parameter(self, job: Job, batch: Value, direction: Value, head: Value) -> Value:
        """Index of a head's a and dt_bias."""
        raise NotImplementedError

    def parameter_count(self, job: Job) -> Value:
        """Numbers in a, and in dt_bias."""
        raise NotImplementedError

    def skip_count(self, job: Job) -> Value:
        """Numbers in d."""
        raise NotImplementedError

    def skip(self, job: Job, batch: Value, head: Value) -> Value:
        """Index of a head in d."""
        raise NotImplementedError

    def order(self, k: Code, job: Job, direction: Value, columns: bool | Value) -> tuple[Value, Value, Value, Value]:
        """inner, inner_stride, outer_stride and backwards of a `Walk`."""
        raise NotImplementedError


class Scan(Kernel):
    """What the forward and the backward kernel share."""

    def __init__(self, geometry: Geometry, states: int) -> None:
        self.geometry, self.states = geometry, states
        self.directions = sum(len(directions) for directions, _ in geometry.passes)

    def constraints(self, job: Job) -> Sequence[Value]:
        """N is the one that is compiled in."""
        return [job.N.equals(self.states), *self.geometry.constraints(job)]

    def walk(self, k: Code, job: Job, share: Share, direction: Value, columns: bool | Value) -> Walk:
        """The chunks of a segment, in the order of a direction."""
        length = self.geometry.sizes(job)[1]
        chunks = (length + (k.lanes - 1)) / k.lanes
        first, last = (chunks * (share.segment + step) / share.segments for step in (0, 1))
        inner, inner_stride, outer_stride, backwards = self.geometry.order(k, job, direction, columns)
        return Walk(length, inner, inner_stride, outer_stride, backwards, first, last)

    def columns(self, k: Code, direction: Value) -> Value:
        """Whether a direction goes along columns."""
        along = k.int(0)
        for directions, columns in self.geometry.passes:
            for number in directions:
                along = k.select(direction.equals(number), k.int(int(columns)), along)
        return along.equals(1)

    def before(self, k: Code, job: Job, share: Share, direction: Value, number: Value) -> tuple[Value, Value]:
        """How many segments a direction visits before this one, and which is number 0, 1, … of all."""
        backwards = self.geometry.order(k, job, direction, False)[3].equals(1)
        count = k.select(backwards, share.segments - 1 - share.segment, share.segment)
        return count, k.select(backwards, share.segments - 1 - number, number)


class Forward(Scan):
    """y of a scan. Where passes add up, the first direction writes y, with the skip."""

    def __init__(self, geometry: Geometry, states: int, results: dict[str, str]) -> None:
        super().__init__(geometry, states)
        self.signature = Signature(geometry.inputs, results)
        self.phase_names = ("states", *(f"pass_{number}" for number in range(len(geometry.passes))))

    def _partition(self, k: Code, job: Job) -> tuple[Value, Value]:
        batches, length, heads, _ = self.geometry.sizes(job)
        blocks = head_blocks(k, batches, heads, job.threads)
        return blocks, segments(k, batches * blocks, (length + (k.lanes - 1)) / k.lanes, job.threads)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """States of every direction's segments, then the passes."""
        blocks, parts = self._partition(k, job)
        units = self.geometry.sizes(job)[0] * blocks * parts
        return [k.select(parts > 1, units * self.directions, k.int(0)), *([units] * len(self.geometry.passes))]

    def shared(self, k: Code, job: Job) -> Value:
        """For every sequence, direction, segment and head: its state, and a vector of its decay."""
        batches, _, heads, _ = self.geometry.sizes(job)
        _, parts = self._partition(k, job)
        return k.select(parts > 1, batches * self.directions * parts * heads * self._entry(k, job), k.int(0))

    def scratch(self, k: Code, job: Job) -> Value:
        """Tables of pixels, steps, and a state for every head."""
        return self._arrays(k, job, None)[-1]

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit of a phase."""
        blocks, parts = self._partition(k, job)
        heads = self.geometry.sizes(job)[2]
        if phase == 0:
            share, direction = Share.of(unit / self.directions, heads, blocks, parts), unit % self.directions
            columns = self.columns(k, direction)
            self._scan(module, k, job, share, direction, scratch, columns=columns, output="none")
            self._keep_states(k, job, share, direction, scratch)
            return
        share = Share.of(unit, heads, blocks, parts)
        directions, columns = self.geometry.passes[phase - 1]
        if phase == 1:
            first, directions = directions[0], directions[1:]
            self._scan(module, k, job, share, k.int(first), scratch, columns=columns, output="write")
            self.finish(k, job, share, self._arrays(k, job, scratch)[2], self._entry(k, job))
        if directions:
            step = directions[1] - directions[0] if len(directions) > 1 else 1
            with k.loop(len(directions)) as turn:
                direction = turn * step + directions[0]
                self._scan(module, k, job, share, direction, scratch, columns=columns, output="add")

    def finish(self, k: Code, job: Job, share: Share, states: Value, entry: Value) -> None:
        """What an op does with the states after the first direction of a segment."""

    def _entry(self, k: Code, job: Job) -> Value:
        return state_size(k, k.owner, self.geometry.sizes(job)[3], self.states) + k.lanes

    def _arrays(self, k: Code, job: Job, block: Value | None) -> tuple[Value, Value, Value, Value]:
        arena = Arena(k, block)
        heads = self.geometry.sizes(job)[2]
        tables, steps, states = (arena.take(size) for size in (4 * k.lanes, 3 * k.lanes, heads * self._entry(k, job)))
        return tables, steps, states, arena.total

    def _scan(self, module, k, job, share, direction, scratch, *, columns, output) -> None:
        """One direction of a unit's heads and segment."""
        geometry, entry = self.geometry, self._entry(k, job)
        tables, steps, states, _ = self._arrays(k, job, scratch)
        heads, P = share.last_head - share.first_head, geometry.sizes(job)[3]
        with k.loop(heads) as own:
            k.fill(states + own * entry, entry)
        if output != "none":
            self._enter(k, job, share, direction, states)
        (x, xs), (y, _) = (geometry.channels(job, name, share.batch) for name in ("x", "y"))
        x, y = (pointer + share.first_head * P for pointer in (x, y))
        (b, bs), (c, _) = (geometry.maps(job, name, share.batch, direction) for name in ("b", "c"))
        dt, dts = geometry.steps(job, "dt", share.batch, direction)
        dt = dt + share.first_head
        streams = []
        if columns is not False:
            one = k.int(1)
            streams = [(x, xs, heads * P), (y, xs, heads * P), (b, bs, one), (c, bs, one), (dt, dts, one)]
        order = self.walk(k, job, share, direction, columns)
        with order.visit(module, k, tables, streams) as (_, pixels, count), k.loop(heads) as own:
            head = share.first_head + own
            index = geometry.parameter(job, share.batch, direction, head)
            bias, a = (k.scalar(job[name], index) for name in ("dt_bias", "a"))
            k.call(steps_function(module), dt + own, dts, pixels, count, bias, a, steps)
            state = states + own * entry
            if output == "none":
                k.accumulate(k.load(steps, 2 * k.lanes), state, entry - k.lanes)
            store_decays(k, steps)
            skip = job["d"] + geometry.skip(job, share.batch, head)
            rows = (state, x + own * P, y + own * P, xs, b, c, bs, skip, P)
            k.call(recurrence_function(module, self.states, output), pixels, count, steps, *rows)

    def _place(self, k, job, share, direction, segment, head) -> Value:
        index = (share.batch * self.directions + direction) * share.segments + segment
        return job.shared + (index * self.geometry.sizes(job)[2] + head) * self._entry(k, job)

    def _keep_states(self, k, job, share, direction, scratch) -> None:
        """Leaves the states of a segment, and the decay over all of it, to the phases after."""
        states, entry = self._arrays(k, job, scratch)[2], self._entry(k, job)
        with k.loop(share.last_head - share.first_head) as own:
            kept = self._place(k, job, share, direction, share.segment, share.first_head + own)
            with k.loop(entry - k.lanes, step=k.lanes) as i:
                k.store(k.load(states + own * entry, i), kept, i)
            logarithm = k.splat(k.sum_lanes(k.load(states + own * entry, entry - k.lanes)))
            k.store(exp2(k, logarithm), kept, entry - k.lanes)

    def _enter(self, k, job, share, direction, states) -> None:
        """The states with which a segment begins: through those before it, one after the other."""
        entry = self._entry(k, job)
        count, _ = self.before(k, job, share, direction, k.int(0))
        with k.loop(count) as i, k.loop(share.last_head - share.first_head) as own:
            _, segment = self.before(k, job, share, direction, i)
            kept = self._place(k, job, share, direction, segment, share.first_head + own)
            decay, state = k.load(kept, entry - k.lanes), states + own * entry
            with k.loop(entry - k.lanes, step=k.lanes) as place:
                k.store(k.fma(decay, k.load(state, place), k.load(kept, place)), state, place)
