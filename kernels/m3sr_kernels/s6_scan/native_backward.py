"""S6 on a CPU, backward: states and decays of one chunk of tokens at a time, computed again.

A unit is a slice of the sequences or, where there are too few of them for all threads, a segment of one. Its first pass
keeps the states on entry of every chunk. The second takes the chunks from the last to the first: forwards through a
chunk's tokens for their states, decays and dc, backwards for the adjoint of the state,

    λ_t = c_t·dy_t + exp(Δ_{t+1}·a)·λ_{t+1},

from which all other gradients follow. With segments a phase before computes what each does to a zero state and to a
zero adjoint: with q_t the decay from its start to token t, the adjoint before it gains Σ_t q_t·c_t·dy_t, so one pass
forwards gives both.
"""

from __future__ import annotations

import types
from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.memory import Arena, sum_of_rows
from m3sr_kernels.native.sequence import segments
from m3sr_kernels.native.vector_math import LN_2, sigmoid, silu, silu_and_slope, softplus
from m3sr_kernels.s6_scan.native_tokens import Channels, Tokens, entry, flag

CHUNK = 16  # tokens whose states and decays are kept at once
SLICES = 16  # of the sequences, each with sums of its own for the parameters' gradients


class Backward(Tokens):
    """All gradients. That of `rates` is that of a, with the states first."""

    phase_names = ("states", "slices", "sums")

    def __init__(self, states: int, gated: int) -> None:
        super().__init__(states, gated)
        self.signature = Signature(
            self.inputs | {"dy": "M L D"}, {f"d{name}": shape for name, shape in self.inputs.items()}
        )

    def _partition(self, k: Code, job: Job) -> tuple[Value, Value]:
        """Slices and segments."""
        slices = k.minimum(job.M, k.maximum(job.threads, SLICES))
        return slices, segments(k, slices, (job.L + (CHUNK - 1)) / CHUNK, job.threads)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """What segments do to states and adjoints, slices, sums of a row of parameters."""
        slices, parts = self._partition(k, job)
        return [k.select(parts > 1, slices * parts, k.int(0)), slices * parts, k.int(self.states + 2)]

    # Memory.
    def _summands(self, job: Job) -> Value:
        """A unit's sums for the parameters: N rows of rates, d, dt_bias."""
        return job.E * (self.states + 2)

    def _entry(self, job: Job) -> int:
        """What a segment does: its states and adjoints, and its decays."""
        return 3 * self.state(job)

    def shared(self, k: Code, job: Job) -> Value:
        """The sums of every unit, then entries if there are segments."""
        slices, parts = self._partition(k, job)
        entries = k.select(parts > 1, job.M * parts * self.vectors(job) * self._entry(job), k.int(0))
        return slices * parts * self._summands(job) + entries

    def _kept(self, k: Code, job: Job, sequence: Value, segment: Value, vector: Value) -> Value:
        slices, parts = self._partition(k, job)
        base = job.shared + slices * parts * self._summands(job)
        return entry(job, base, self._entry(job), sequence, segment, parts, vector)

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None).total

    def _arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        arena, vectors, state = Arena(k, block), self.vectors(job), self.state(job)
        maps = -(-self.states // k.lanes) * k.lanes
        chunks = (job.L + (CHUNK - 1)) / CHUNK / self._partition(k, job)[1] + 1
        return types.SimpleNamespace(
            map_row=2 * maps,  # db and dc of a token, each in whole vectors
            maps=arena.take(CHUNK * 2 * maps),
            steps=arena.take(CHUNK * k.lanes),
            asked=arena.take(CHUNK * k.lanes),
            states=arena.take((CHUNK + 1) * state),  # before each token, and after the last
            decays=arena.take(CHUNK * state),
            adjoints=arena.take(vectors * state),
            entering=arena.take((chunks * vectors + 1) * (state + k.lanes)),
            total=arena.total,
        )

    # Phases.
    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """One unit of a phase."""
        slices, parts = self._partition(k, job)
        if phase == 2:
            self._add_units(k, job, unit)
            return
        number, segment = unit / parts, unit % parts
        own = job.shared + unit * self._summands(job)
        if phase == 1:
            k.fill(own, self._summands(job))
        with k.loop(job.M * (number + 1) / slices, start=job.M * number / slices) as sequence:
            if phase == 0:
                self._through_segment(module, k, job, sequence, segment)
            else:
                self._sequence(module, k, job, sequence, segment, scratch, own)

    def _through_segment(self, module: Module, k: Code, job: Job, sequence: Value, segment: Value) -> None:
        """What a segment alone does to states and adjoints."""
        begin, end = self.span(k, job, segment, self._partition(k, job)[1], CHUNK)
        with k.loop(self.vectors(job)) as vector:
            kept = self._kept(k, job, sequence, segment, vector)
            k.call(self._segment_function(module), job.pointer, sequence * job.L + begin, end - begin, vector, kept)

    def _segment_function(self, module: Module) -> ir.Function:
        """segment(job, row, count, vector, kept): states, adjoints and decays of `count` tokens."""

        def body(k: Code, pointer: Value, row: Value, count: Value, vector: Value, kept: Value) -> None:
            job = Job(k, pointer, self.signature)
            own = Channels(k, job, vector)
            states, adjoints = ([k.cell(k.zero()) for _ in range(self.states)] for _ in range(2))
            through = [k.cell(k.vec(1.0)) for _ in range(self.states)]
            with k.loop(count, start=0) as t:
                step, x, maps = softplus(k, own.raw_step(row + t)), own.load("x", row + t), job["c"] + (row + t) * job.N
                asked = self._asked(k, own, row + t)

                def adjoint(n: int, decay: Value, maps: Value = maps, asked: Value = asked) -> None:
                    through[n].set(through[n].get() * decay)
                    weight = k.broadcast(maps, n) * asked
                    adjoints[n].set(k.fma(through[n].get(), weight, adjoints[n].get()))

                self.advance(k, job, own, row + t, states, step, x, keep=adjoint)
            for number, cells in enumerate((states, adjoints, through)):
                self.store_states(k, cells, kept + number * self.state(job))

        return module.once("segment", lambda: module.function("segment", "piiip", body))

    def _asked(self, k: Code, own: Channels, row: Value) -> Value:
        """The cotangent of the output before the gate."""
        cotangent = own.load("dy", row)
        return cotangent * silu(k, own.load("z", row)) if self.gated else cotangent

    def _sequence(self, module: Module, k: Code, job: Job, sequence, segment, scratch: Value, own: Value) -> None:
        """All gradients by a segment of a sequence."""
        s, vectors, state = self._arrays(k, job, scratch), self.vectors(job), self.state(job)
        begin, end = self.span(k, job, segment, self._partition(k, job)[1], CHUNK)
        place = lambda t, vector: s.entering + ((t - begin) / CHUNK * vectors + vector) * (state + k.lanes)  # noqa: E731
        row = sequence * job.L
        self._enter(k, job, sequence, segment, place(begin, k.int(0)), s.adjoints)
        with k.loop(end - CHUNK, start=begin, step=CHUNK) as t, k.loop(vectors) as vector:
            places, first = (place(t, vector), place(t + CHUNK, vector)), flag(k, t.equals(0))
            k.call(self.states_function(module), job.pointer, row + t, k.int(CHUNK), vector, *places, first)
        with k.loop((end - begin + (CHUNK - 1)) / CHUNK, down=True) as number:
            t = begin + number * CHUNK
            count, first = k.minimum(end - t, CHUNK), flag(k, t.equals(0))
            k.fill(s.maps, CHUNK * s.map_row)
            with k.loop(vectors) as vector:
                places = place(t, vector), s.adjoints + vector * state
                k.call(self._chunk_function(module), job.pointer, scratch, row + t, count, vector, *places, own, first)
            self._store_maps(k, job, s, row + t, count)

    def _enter(self, k: Code, job: Job, sequence: Value, segment: Value, states: Value, adjoints: Value) -> None:
        """States from the sequence's begin to the segment, adjoints from its end."""
        vectors, size, lanes = self.vectors(job), self.state(job), k.lanes
        parts = self._partition(k, job)[1]
        k.fill(states, vectors * (size + lanes))
        k.fill(adjoints, vectors * size)

        def through(other: Value, first: int, target: Value, stride: int) -> None:
            with k.loop(vectors) as vector:
                kept, own = self._kept(k, job, sequence, other, vector), target + vector * stride
                with k.loop(size, step=lanes) as i:
                    decay, gained = k.load(kept, i + 2 * size), k.load(kept, i + first)
                    k.store(k.fma(decay, k.load(own, i), gained), own, i)

        with k.loop(segment) as before:
            through(before, 0, states, size + lanes)
        with k.loop(parts, start=segment + 1, down=True) as after:
            through(after, size, adjoints, size)

    # One chunk.
    def _chunk_function(self, module: Module) -> ir.Function:
        """chunk(job, scratch, row, count, vector, entering, adjoint, sums, first): gradients by one vector."""

        def body(k: Code, pointer, scratch, row, count, vector, entering, adjoint, sums, first) -> None:
            job = Job(k, pointer, self.signature)
            s, own = self._arrays(k, job, scratch), Channels(k, job, vector)
            self._forwards(k, job, s, own, row, count, entering, first)
            self._backwards(k, job, s, own, row, count, adjoint, sums + vector * k.lanes)

        return module.once("chunk", lambda: module.function("chunk", "ppiiipppi", body))

    def _forwards(self, k: Code, job: Job, s, own: Channels, row: Value, count: Value, entering, first: Value) -> None:
        """Leaves states, decays, Δ and what is asked of the output; adds dc; writes dz."""
        states, size = self.load_states(k, entering), self.state(job)
        self.store_states(k, states, s.states)

        def token(t: Value, decayed: bool) -> None:
            step, x, asked = softplus(k, own.raw_step(row + t)), own.load("x", row + t), self._asked(k, own, row + t)
            keep = lambda n, decay: k.store(decay, s.decays + t * size, n * k.lanes)  # noqa: E731
            self.advance(k, job, own, row + t, states, step, x, decayed=decayed, keep=keep)
            self.store_states(k, states, s.states + (t + 1) * size)
            k.store(step, s.steps + t * k.lanes)
            k.store(asked, s.asked + t * k.lanes)
            self._add_maps(k, s, t, s.map_row // 2, [cell.get() * asked for cell in states])
            if self.gated:
                y, slope = self.output(k, job, own, row + t, states, x), silu_and_slope(k, own.load("z", row + t))[1]
                own.store(own.load("dy", row + t) * y * slope, "dz", row + t)

        self.each_token(k, count, first, token)

    def _backwards(self, k: Code, job: Job, s, own: Channels, row: Value, count: Value, adjoint, sums: Value) -> None:
        """Takes the adjoint to the begin of the chunk; adds db and the parameters' gradients; writes dx and ddt."""
        size, lanes, d = self.state(job), k.lanes, own.parameter("d")
        adjoints, by_rates = self.load_states(k, adjoint), [k.cell(k.zero()) for _ in range(self.states)]
        by_skip, by_bias = k.cell(k.zero()), k.cell(k.zero())
        with k.loop(count, down=True) as t:
            here, x = row + t, own.load("x", row + t)
            step, asked = k.load(s.steps + t * lanes), k.load(s.asked + t * lanes)
            gains, maps = job["b"] + here * job.N, job["c"] + here * job.N
            fed, by_fed, by_step, by_maps = step * x, k.zero(), k.zero(), []
            for n, cell in enumerate(adjoints):
                whole = k.fma(k.broadcast(maps, n), asked, cell.get())
                by_maps.append(whole * fed)
                by_fed = k.fma(k.broadcast(gains, n), whole, by_fed)
                before = k.load(s.decays + t * size, n * lanes) * whole
                cell.set(before)
                through = before * k.load(s.states + t * size, n * lanes)
                by_step = k.fma(through, own.parameter("rates", n), by_step)
                by_rates[n].set(k.fma(through, step, by_rates[n].get()))
            self._add_maps(k, s, t, 0, by_maps)
            slope = k.fma(by_fed, x, by_step * LN_2) * sigmoid(k, own.raw_step(here))
            own.store(slope, "ddt", here)
            own.store(k.fma(by_fed, step, d * asked), "dx", here)
            by_skip.set(k.fma(asked, x, by_skip.get()))
            by_bias.add(slope)
        self.store_states(k, adjoints, adjoint)
        for n, cell in enumerate([*by_rates, by_skip, by_bias]):
            k.accumulate(cell.get(), sums + job.E * n)

    def _add_maps(self, k: Code, s, t: Value, first: int, rows: list[Value]) -> None:
        """Adds the sums over the lanes of one vector a state to a token's row of db and dc."""
        rows = [*rows, *[k.zero()] * (-len(rows) % k.lanes)]
        for n in range(0, len(rows), k.lanes):
            k.accumulate(sum_of_rows(k, rows[n : n + k.lanes]), s.maps + t * s.map_row, first + n)

    def _store_maps(self, k: Code, job: Job, s, row: Value, count: Value) -> None:
        """Writes db and dc of a chunk."""
        with k.loop(count) as t:
            for number, name in enumerate(("db", "dc")):
                source, target = s.maps + t * s.map_row, job[name] + (row + t) * self.states
                for n in range(0, self.states, k.lanes):
                    mask = k.constant_mask([n + lane < self.states for lane in range(k.lanes)])
                    k.store_masked(mask, k.load(source, number * (s.map_row // 2) + n), target, n)

    def _add_units(self, k: Code, job: Job, number: Value) -> None:
        """A row of the parameters' gradients: the units' sums in their order."""
        slices, parts = self._partition(k, job)
        rest = k.select(number.equals(self.states), job["dd"], job["ddt_bias"])
        target = k.select(number < self.states, job["drates"] + number * job.E, rest)
        with k.loop(job.E, step=k.lanes) as channel:
            total = k.cell(k.zero())
            with k.loop(slices * parts) as unit:
                total.add(k.load(job.shared + unit * self._summands(job), number * job.E + channel))
            k.store(total.get(), target, channel)
