"""One chunk of a scan, backward: `lanes` elements in their matrix form.

Within a chunk the recurrence is a matrix. With e_r the decays, D[t,s] = Π_{s<r≤t} e_r for s ≤ t, q_t = Π_{r≤t} e_r from
the chunk's start, w_s = Π_{r>s} e_r to its end, h the state on entry and g the adjoint of the state on leaving:

    y_t = Σ_s D[t,s]·(c_t·b_s)·Δ_s·x_s + q_t·c_t·h
    h'  = q_end·h + Σ_s w_s·Δ_s·b_s ⊗ x_s
    g'  = q_end·g + Σ_t q_t·c_t ⊗ dy_t

and every gradient is a small matrix product, with elements of the chunk on the lanes; no sum over lanes is left. The
gradient of log e_r collects all pairs s < r ≤ t. D is a product over its own path, never a quotient, so decays that
underflow lose nothing.
"""

from __future__ import annotations

import types

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job
from m3sr_kernels.native.matrix import product, tile_rows
from m3sr_kernels.native.memory import Arena, round_up, running_sum, shifted, sum_of_rows, transpose_function
from m3sr_kernels.native.scan import Scan
from m3sr_kernels.native.sequence import segments, steps_function
from m3sr_kernels.native.vector_math import exp2, sigmoid


class Chunk(Scan):
    """The working memory of a thread, and all gradients by one head in one chunk."""

    def _blocks(self, k: Code, job: Job) -> Value:
        return k.minimum(self.geometry.sizes(job)[2], self.directions)

    def _parts(self, k: Code, job: Job) -> Value:
        batches, length, _, _ = self.geometry.sizes(job)
        return segments(k, batches * self._blocks(k, job), (length + (k.lanes - 1)) / k.lanes, job.threads)

    def _width(self, k: Code, job: Job) -> Value:
        """A head's channels, in whole pairs of vectors."""
        return round_up(self.geometry.sizes(job)[3], 2 * k.lanes)

    def _state(self, k: Code, job: Job) -> Value:
        return self._width(k, job) * self.states

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

    def _advance(self, k: Code, job: Job, arrays, state, maps, rows, *, step_and_rest: bool) -> None:
        """State ← q_end·state + Σ_t f_t·maps_t ⊗ rows_t, f being w·Δ or q."""
        W = k.lanes
        factor = k.load(arrays.decays, W)
        if step_and_rest:
            factor = k.load(arrays.decays, 2 * W) * k.load(arrays.steps, W)
        self._scale_maps(k, arrays, maps, factor)
        width = self._width(k, job)
        sizes = {"inner": W, "rows": self.states, "vectors": width / W, "rows_at_once": tile_rows(k.owner, self.states)}
        weights, decay = (arrays.scaled, arrays.scaled_row, 1), k.scalar(arrays.decays, 2 * W - 1)
        product(k, (state, width), weights, (rows, width), **sizes, scale=decay)

    def _scale_maps(self, k: Code, arrays, maps: Value, factor: Value) -> None:
        """The first N numbers of each row, times a lane of `factor`, to `scaled`."""
        k.store(factor, arrays.scaled, k.lanes * arrays.scaled_row)
        with k.loop(k.lanes) as t:
            own = k.broadcast(arrays.scaled, t + k.lanes * arrays.scaled_row)
            for n in range(0, arrays.scaled_row, k.lanes):
                k.store(k.load(maps + t * arrays.map_row, n) * own, arrays.scaled + t * arrays.scaled_row, n)

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
        sizes = {"inner": self.states, "rows": W, "vectors": 1, "rows_at_once": tile_rows(module, W)}
        product(k, (arrays.overlap, W), (arrays.maps + self.states, 1, arrays.map_row), (arrays.maps_t, W), **sizes)

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
        of_c = (arrays.maps + N, arrays.map_row, 1)
        product(k, (gradients, W), of_c, (arrays.weighted, W), inner=W, scale=1.0, **of_maps)
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
