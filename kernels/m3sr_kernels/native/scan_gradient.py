"""Scans with one decay a head (SSD), backward: chunks of `lanes` elements in their matrix form.

Within a chunk the recurrence is a matrix. With e_r the decays, D[t,s] = Π_{s<r≤t} e_r for s ≤ t, q_t = Π_{r≤t} e_r from
the chunk's start, w_s = Π_{r>s} e_r to its end, h the state on entry and g the adjoint of the state on leaving:

    y_t = Σ_s D[t,s]·(c_t·b_s)·Δ_s·x_s + q_t·c_t·h
    h'  = q_end·h + Σ_s w_s·Δ_s·b_s ⊗ x_s
    g'  = q_end·g + Σ_t q_t·c_t ⊗ dy_t

and every gradient is a small matrix product, with elements of the chunk on the lanes; no sum over lanes is left. The
gradient of log e_r collects all pairs s < r ≤ t. D is a product over its own path, never a quotient, so decays that
underflow lose nothing. A first pass over a segment keeps h at every chunk.
"""

from __future__ import annotations

import types
from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.ffi import Job, Signature
from m3sr_kernels.native.matrix import product, tile_rows
from m3sr_kernels.native.memory import (
    Arena,
    round_up,
    running_sum,
    shifted,
    sum_of_rows,
    transpose_function,
)
from m3sr_kernels.native.scan import Geometry, Scan
from m3sr_kernels.native.sequence import Share, segments, steps_function
from m3sr_kernels.native.vector_math import exp2, sigmoid


class Backward(Scan):
    """Gradients of a scan.

    dx sums over directions, db and dc over heads. So that no two units add to the same numbers at once, there are at
    most as many blocks of heads as directions, and in turn t block i works on direction (t + i) mod K: each block
    on one
    direction, each direction by one block.
    """

    def __init__(self, geometry: Geometry, states: int, extra: dict[str, str], results: dict[str, str]) -> None:
        super().__init__(geometry, states)
        self.signature = Signature({**geometry.inputs, **extra}, results)
        self.phase_names = ("states", *(f"turn_{number}" for number in range(self.directions)), "sums")

    def _blocks(self, k: Code, job: Job) -> Value:
        return k.minimum(self.geometry.sizes(job)[2], self.directions)

    def _parts(self, k: Code, job: Job) -> Value:
        batches, length, _, _ = self.geometry.sizes(job)
        return segments(k, batches * self._blocks(k, job), (length + (k.lanes - 1)) / k.lanes, job.threads)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """States of every direction's segments, the turns, sums over sequences and segments."""
        parts = self._parts(k, job)
        units = self.geometry.sizes(job)[0] * self._blocks(k, job) * parts
        return [k.select(parts > 1, units * self.directions, k.int(0)), *([units] * self.directions), k.int(1)]

    # Memory.
    def _width(self, k: Code, job: Job) -> Value:
        """A head's channels, in whole pairs of vectors."""
        return round_up(self.geometry.sizes(job)[3], 2 * k.lanes)

    def _state(self, k: Code, job: Job) -> Value:
        return self._width(k, job) * self.states

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

    def _arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        W, arena, width = k.lanes, Arena(k, block), self._width(k, job)
        _, length, heads, _ = self.geometry.sizes(job)
        maps, rows = -(-2 * self.states // W) * W, -(-self.states // W) * W
        chunks = (length + (W - 1)) / W / self._parts(k, job) + 1
        blocks = self._blocks(k, job)
        heads_at_once = (heads + blocks - 1) / blocks
        square, state = W * W, self._state(k, job)
        return types.SimpleNamespace(
            map_row=maps,
            scaled_row=rows,
            tables=arena.take(4 * W),
            maps=arena.take(W * maps + 2 * W),  # rows of b and c side by side; what reads c's whole vectors runs over
            maps_t=arena.take(maps * W),
            overlap=arena.take(square),  # c_t·b_s
            map_gradients=arena.take(maps * W),
            map_gradient_rows=arena.take(W * maps + 2 * W),
            steps=arena.take(3 * W),
            decays=arena.take(3 * W),  # e, q, w
            x=arena.take(width * W),
            x_t=arena.take(width * W),
            dy=arena.take(width * W),
            dy_t=arena.take(width * W),
            du=arena.take(width * W),
            pairs=arena.take(square),
            matrix=arena.take(square),
            weighted=arena.take(square),
            weighted_t=arena.take(square),
            scaled=arena.take(W * rows + W),
            of_state=arena.take(self.states * W),
            of_adjoint=arena.take(self.states * W),
            states=arena.take(heads_at_once * state),
            adjoints=arena.take(heads_at_once * state),
            entering=arena.take(chunks * heads_at_once * state),
            total=arena.total,
        )

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

    def _advance(self, k: Code, job: Job, arrays, state, maps, rows, *, step_and_rest: bool) -> None:
        """State ← q_end·state + Σ_t f_t·maps_t ⊗ rows_t, f being w·Δ or q."""
        W = k.lanes
        factor = k.load(arrays.decays, W)
        if step_and_rest:
            factor = k.load(arrays.decays, 2 * W) * k.load(arrays.steps, W)
        self._scale_maps(k, arrays, maps, factor)
        width = self._width(k, job)
        product(
            k,
            (state, width),
            (arrays.scaled, arrays.scaled_row, 1),
            (rows, width),
            inner=W,
            rows=self.states,
            vectors=width / W,
            scale=k.scalar(arrays.decays, 2 * W - 1),
            rows_at_once=tile_rows(k.owner, self.states),
        )

    def _scale_maps(self, k: Code, arrays, maps: Value, factor: Value) -> None:
        """The first N numbers of each row, times a lane of `factor`, to `scaled`."""
        k.store(factor, arrays.scaled, k.lanes * arrays.scaled_row)
        with k.loop(k.lanes) as t:
            own = k.broadcast(arrays.scaled, t + k.lanes * arrays.scaled_row)
            for n in range(0, arrays.scaled_row, k.lanes):
                k.store(k.load(maps + t * arrays.map_row, n) * own, arrays.scaled + t * arrays.scaled_row, n)

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

    # One chunk.
    def _load_maps(self, module, k, job, share, direction, pixels, count, arrays) -> None:
        """Rows of b and c side by side, zero where there is no element."""
        bases = [self.geometry.maps(job, name, share.batch, direction) for name in ("b", "c")]
        k.fill(arrays.maps, arrays.map_row * k.lanes)
        with k.loop(count) as i:
            pixel = k.load_int(pixels, i)
            for number, (base, stride) in enumerate(bases):
                target = arrays.maps + i * arrays.map_row + number * self.states
                for n in range(0, self.states, k.lanes):
                    mask = k.constant_mask([n + lane < self.states for lane in range(k.lanes)])
                    k.store_masked(mask, k.load_masked(mask, base + pixel * stride, n), target, n)

    def _products_of_maps(self, module, k, arrays) -> None:
        W, transpose = k.lanes, transpose_function(module)
        for column in range(0, arrays.map_row, W):
            k.call(transpose, arrays.maps + column, arrays.map_row, arrays.maps_t + column * W, W)
        product(
            k,
            (arrays.overlap, W),
            (arrays.maps + self.states, 1, arrays.map_row),
            (arrays.maps_t, W),
            inner=self.states,
            rows=W,
            vectors=1,
            rows_at_once=tile_rows(module, W),
        )

    def _load_steps(self, module, k, job, batch, direction, head, pixels, count, arrays) -> None:
        """Steps of a chunk, its decays e, and their products q from the start and w to the end."""
        _W, geometry = k.lanes, self.geometry
        index = geometry.parameter(job, batch, direction, head)
        base, stride = geometry.steps(job, "dt", batch, direction)
        bias, a = (k.scalar(job[name], index) for name in ("dt_bias", "a"))
        k.call(steps_function(module), base + head, stride, pixels, count, bias, a, arrays.steps)
        k.call(_decays_function(module), arrays.steps, arrays.decays)

    def _gather(self, k, job, name, batch, head, pixels, count, rows) -> None:
        """A head's channels of a chunk, rows padded with zeros to whole vectors, zero where there is no element."""
        base, stride = self.geometry.channels(job, name, batch)
        P = self.geometry.sizes(job)[3]
        k.call(_gather_function(k.owner), base + head * P, stride, pixels, count, P, rows, self._width(k, job))

    def _head_function(self, module: Module) -> ir.Function:
        """All gradients by one head in one chunk."""

        def body(k, job, scratch, pixels, count, batch, direction, head, entering, adjoint, own, first, summands):
            seen = Job(k, job, self.signature)
            arrays = self._arrays(k, seen, scratch)
            self._load_steps(module, k, seen, batch, direction, head, pixels, count, arrays)
            for name, rows, columns in (("x", arrays.x, arrays.x_t), ("dy", arrays.dy, arrays.dy_t)):
                self._gather(k, seen, name, batch, head, pixels, count, rows)
                width, transpose = self._width(k, seen), transpose_function(module)
                with k.loop(width, step=k.lanes) as p:
                    k.call(transpose, rows + p, width, columns + p * k.lanes, k.lanes)
            self._gradients(module, k, seen, arrays, entering, adjoint, direction, batch, head, pixels, count, summands)
            self._store_dx(k, seen, arrays, batch, head, pixels, count, first, summands)

        return module.once("head", lambda: module.function("head", "pppiiiippiip", body))

    def _gradients(
        self, module, k, job, arrays, entering, adjoint, direction, batch, head, pixels, count, summands
    ) -> None:
        W, N, P = k.lanes, self.states, self.geometry.sizes(job)[3]
        width = self._width(k, job)
        square = {"rows": W, "vectors": 1, "rows_at_once": tile_rows(module, W)}
        of_maps = {"rows": N, "vectors": 1, "rows_at_once": tile_rows(module, N)}
        # dy_t·x_s, and what the pairs of the chunk make of it.
        product(k, (arrays.pairs, W), (arrays.dy, 1, width), (arrays.x_t, W), inner=P, **square)
        by_step = k.cell(self._weigh_pairs(k, arrays))
        gradients = arrays.map_gradients
        product(
            k,
            (gradients, W),
            (arrays.maps + N, arrays.map_row, 1),
            (arrays.weighted, W),
            inner=W,
            scale=1.0,
            **of_maps,
        )
        k.call(transpose_function(module), arrays.weighted, W, arrays.weighted_t, W)
        transposed = (arrays.weighted_t, W)
        by_c = (gradients + N * W, W)
        product(k, by_c, (arrays.maps, arrays.map_row, 1), transposed, inner=W, scale=1.0, **of_maps)
        # The state on entry and the adjoint on leaving.
        product(k, (arrays.of_state, W), (entering, 1, width), (arrays.dy_t, W), inner=P, **of_maps)
        product(k, (arrays.of_adjoint, W), (adjoint, 1, width), (arrays.x_t, W), inner=P, **of_maps)
        start, rest, step = k.load(arrays.decays, W), k.load(arrays.decays, 2 * W), k.load(arrays.steps, W)
        from_start, to_end = k.zero(), k.zero()
        for n in range(N):
            of_state, of_adjoint = k.load(arrays.of_state, n * W), k.load(arrays.of_adjoint, n * W)
            from_start = k.fma(k.load(arrays.maps_t, (N + n) * W), of_state, from_start)
            to_end = k.fma(k.load(arrays.maps_t, n * W), of_adjoint, to_end)
            k.accumulate(start * of_state, gradients, (N + n) * W)
            k.accumulate(rest * step * of_adjoint, gradients, n * W)
        through = k.cell(k.zero())
        with k.loop(width * N, step=W) as i:
            through.set(k.fma(k.load(entering, i), k.load(adjoint, i), through.get()))
        through_all = k.splat(k.sum_lanes(through.get()) * k.scalar(arrays.decays, 2 * W - 1))
        to_end = to_end * rest
        by_step.add(to_end)
        by_decay = self._sum_pairs(k, arrays) + running_sum(k, start * from_start, backwards=True)
        by_decay = by_decay + shifted(k, running_sum(k, to_end * step), 1) + through_all
        a = k.scalar(job["a"], self.geometry.parameter(job, batch, direction, head))
        slope = k.fma(by_decay, k.splat(a), by_step.get()) * sigmoid(k, k.load(arrays.steps))
        slope = k.select(k.lanes_below(count), slope, k.zero())
        k.accumulate(by_decay * step, summands)
        k.accumulate(slope, summands, W)
        self._store_dt(k, job, arrays, slope, direction, batch, head, pixels, count)
        # du_s = Σ_t D[t,s]·(c_t·b_s)·dy_t + w_s·b_s·g, then the adjoint before the chunk.
        du = (arrays.du, width)
        row = {"rows": W, "vectors": width / W, "rows_at_once": tile_rows(module, W)}
        product(k, du, (arrays.matrix, W, 1), (arrays.dy, width), inner=W, **row)
        self._scale_maps(k, arrays, arrays.maps, rest)
        product(k, du, (arrays.scaled, 1, arrays.scaled_row), (adjoint, width), inner=N, scale=1.0, **row)
        self._advance(k, job, arrays, adjoint, arrays.maps + N, arrays.dy, step_and_rest=False)

    def _weigh_pairs(self, k: Code, arrays) -> Value:
        """Fills `matrix`, `weighted` and, with each pair's part of log decays, `pairs`; returns dΔ by the pairs."""
        W, step = k.lanes, k.load(arrays.steps, k.lanes)
        decay, by_step = k.zero(), k.zero()
        for t in range(W):
            here = k.constant_mask([lane == t for lane in range(W)])
            decay = k.select(here, k.vec(1.0), decay * k.broadcast(arrays.decays, t))
            matrix = k.load(arrays.overlap, t * W) * decay
            pair = k.load(arrays.pairs, t * W)
            k.store(matrix, arrays.matrix, t * W)
            k.store(decay * step * pair, arrays.weighted, t * W)
            by_step = k.fma(matrix, pair, by_step)
            k.store(matrix * pair * step, arrays.pairs, t * W)
        return by_step

    def _sum_pairs(self, k: Code, arrays) -> Value:
        """Lane r: the sum over the pairs s < r ≤ t."""
        rows, total = [k.zero()] * k.lanes, k.zero()
        for r in range(k.lanes - 1, 0, -1):
            total = total + k.load(arrays.pairs, r * k.lanes)
            rows[r] = k.select(k.constant_mask([lane < r for lane in range(k.lanes)]), total, k.zero())
        return sum_of_rows(k, rows)

    def _store_dt(self, k, job, arrays, slope, direction, batch, head, pixels, count) -> None:
        base, stride = self.geometry.steps(job, "ddt", batch, direction)
        k.store(slope, arrays.scaled)
        with k.loop(count) as i:
            k.store(k.scalar(arrays.scaled, i), base + head, k.load_int(pixels, i) * stride)

    def _store_dx(self, k, job, arrays, batch, head, pixels, count, first, summands) -> None:
        """dx = Δ·du, with d·dy in the first direction, which also sums dy·x."""
        base, stride = self.geometry.channels(job, "dx", batch)
        P, width = self.geometry.sizes(job)[3], self._width(k, job)
        skip, base = job["d"] + self.geometry.skip(job, batch, head), base + head * P
        with k.loop(P, step=k.lanes) as p:
            mask = k.lanes_below(P - p)
            weight = k.load_masked(mask, skip, p)
            with k.either(first.equals(1)) as (starts, adds):
                with starts:
                    by_skip = k.cell(k.load(summands, p + 2 * k.lanes))
                    with k.loop(count) as i:
                        dy, place = k.load(arrays.dy, i * width + p), k.load_int(pixels, i) * stride
                        step, du = k.broadcast(arrays.steps, i + k.lanes), k.load(arrays.du, i * width + p)
                        by_skip.set(k.fma(dy, k.load(arrays.x, i * width + p), by_skip.get()))
                        k.store_masked(mask, k.fma(step, du, weight * dy), base + place, p)
                    k.store(by_skip.get(), summands, p + 2 * k.lanes)
                with adds, k.loop(count) as i:
                    place = base + k.load_int(pixels, i) * stride
                    step, du = k.broadcast(arrays.steps, i + k.lanes), k.load(arrays.du, i * width + p)
                    k.store_masked(mask, k.fma(step, du, k.load_masked(mask, place, p)), place, p)

    def _store_map_gradients(self, module, k, job, share, direction, pixels, count, arrays, first) -> None:
        W, geometry = k.lanes, self.geometry
        transpose = transpose_function(module)
        for row in range(0, arrays.map_row, W):
            target = arrays.map_gradient_rows + row
            k.call(transpose, arrays.map_gradients + row * W, W, target, arrays.map_row)
        bases = [geometry.maps(job, name, share.batch, direction) for name in ("db", "dc")]
        with k.loop(count) as i:
            pixel, source = k.load_int(pixels, i), arrays.map_gradient_rows + i * arrays.map_row
            for number, (base, stride) in enumerate(bases):
                for n in range(0, self.states, W):
                    mask = k.constant_mask([n + lane < self.states for lane in range(W)])
                    place, gained = base + pixel * stride, k.load(source, number * self.states + n)
                    with k.either(first) as (writes, adds):
                        with writes:
                            k.store_masked(mask, gained, place, n)
                        with adds:
                            k.store_masked(mask, gained + k.load_masked(mask, place, n), place, n)

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


def _decays_function(module: Module) -> ir.Function:
    """decays(steps, out): e, q and w of a chunk from the logarithms that `steps` left."""

    def body(k: Code, steps: Value, out: Value) -> None:
        logarithms = k.load(steps, 2 * k.lanes)
        k.store(exp2(k, logarithms), out)
        k.store(exp2(k, running_sum(k, logarithms)), out, k.lanes)
        k.store(exp2(k, shifted(k, running_sum(k, logarithms, backwards=True), -1)), out, 2 * k.lanes)

    return module.once("decays", lambda: module.function("decays", "pp", body))


def _gather_function(module: Module) -> ir.Function:
    """gather(base, stride, pixels, count, width, rows, row): rows of `width` floats, padded with zeros."""

    def body(k: Code, base, stride, pixels, count, width, rows, row) -> None:
        with k.loop(row, step=k.lanes) as p:
            mask = k.lanes_below(width - p)
            with k.loop(count) as i:
                k.store(k.load_masked(mask, base + k.load_int(pixels, i) * stride, p), rows, i * row + p)
            with k.loop(k.lanes, start=count) as i:
                k.store(k.zero(), rows, i * row + p)

    return module.once("gather", lambda: module.function("gather", "pipiipi", body))
