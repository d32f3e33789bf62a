"""The block on a CPU, backward: what happens between the projections is computed again."""

from __future__ import annotations

import types
from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.mamba_token_mix.native_block import ROWS, WEIGHTS, Mixer
from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Signature
from m3sr_kernels.native.matrix import product
from m3sr_kernels.native.memory import Arena, sum_of_rows
from m3sr_kernels.native.vector_math import LN_2, sigmoid, silu_and_slope, softplus

SLICES = 16  # of the sequences, each with sums of its own for the weights' gradients


class Backward(Mixer):
    """Its gradients, with everything between recomputed.

    Those of the weights come as one row, padded as the weights are, in the order of `_sums`.
    """

    phase_names = ("slices", "sums")

    def __init__(self, tokens: int, states: int, taps: int) -> None:
        super().__init__(tokens, states, taps)
        transposed = {"w_out_t": "C E", "w_x_t": "Q E", "w_in_t": "U O", "cotangent": "M L C"}
        self.signature = Signature({"tokens": "M L C"} | WEIGHTS | transposed, {"dtokens": "M L C", "sums": "T"})

    def constraints(self, job: Job) -> Sequence[Value]:
        """All sums fit the row, exactly."""
        return [*super().constraints(job), self._sums(job.zero, job).total.equals(job.T)]

    def _sums(self, base: Value, job: Job) -> types.SimpleNamespace:
        """Where the gradient of each weight begins, in the order in which the caller takes them apart."""
        places, total = {}, base
        for name, size in (
            ("w_in", job.O * job.U),
            ("kernel", job.E * self.taps),
            ("bias", job.E),
            ("w_x", job.E * job.Q),
            ("w_dt", job.K * job.E),
            ("dt_bias", job.E),
            ("rates", job.E * self.states),
            ("d", job.E),
            ("w_out", job.E * job.O),
        ):
            places[name], total = total, total + size
        return types.SimpleNamespace(**places, total=total)

    def _slices(self, k: Code, job: Job) -> Value:
        return k.minimum(self.count(k, job), k.maximum(job.threads, SLICES))

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Slices of the sequences, then parts of the sums."""
        return [self._slices(k, job), k.minimum(job.T / ROWS, SLICES)]

    def shared(self, k: Code, job: Job) -> Value:
        """Sums of every slice."""
        return self._slices(k, job) * job.T

    def scratch(self, k: Code, job: Job) -> Value:
        """See `_arrays`."""
        return self._arrays(k, job, None).total

    def _arrays(self, k: Code, job: Job, block: Value | None) -> types.SimpleNamespace:
        arena, rows, lanes = Arena(k, block), self.rows, k.lanes
        return types.SimpleNamespace(
            tokens=arena.take(job.O * rows),
            cotangent=arena.take(job.O * rows),
            inner=arena.take(job.U * rows),
            mixed=arena.take(job.E * rows),
            slope=arena.take(job.E * rows),
            projected=arena.take(job.Q * rows),
            projected_slope=arena.take(job.Q * rows),
            out=arena.take(job.O * rows),
            carried=arena.take(self.states * lanes),
            states=arena.take(self.tokens * self.states * lanes),
            decays=arena.take(self.tokens * self.states * lanes),
            reduced=arena.take(job.Q * (self.tokens * lanes)),
            total=arena.total,
        )

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """A slice of the sequences, or a part of the sums."""
        if phase == 1:
            self._add_slices(k, job, unit)
            return
        s, slices, blocks = self._arrays(k, job, scratch), self._slices(k, job), self.count(k, job)
        own = job.shared + unit * job.T
        k.fill(own, job.T)
        with k.loop(blocks * (unit + 1) / slices, start=blocks * unit / slices) as block:
            self._block(module, k, job, block, s, self._sums(own, job), scratch, own)

    def _block(self, module, k, job, block, s, sums, scratch, own) -> None:
        E, O, Q, U, _rows = job.E, job.O, job.Q, job.U, self.rows
        count = self.load_tokens(module, k, job, block, "tokens", s.tokens)
        self.load_tokens(module, k, job, block, "cotangent", s.cotangent)
        convolve = self.convolve_function(module)
        self.project(k, s.inner, U, s.tokens, O, job["w_in"], U, job.C, U)
        k.call(convolve, job.pointer, s.inner, U, s.mixed, E)
        self.project(k, s.projected, Q, s.mixed, E, job["w_x"], Q, E, Q)
        self.project(k, s.slope, E, s.cotangent, O, job["w_out_t"], E, job.C, E)
        k.call(self._scan_function(module), job.pointer, scratch, own)
        self._add_weight(k, sums.w_out, O, s.mixed, E, E, s.cotangent, O, O)
        k.call(convolve, job.pointer, s.inner, U, s.mixed, E)
        self._add_weight(k, sums.w_x, Q, s.mixed, E, E, s.projected_slope, Q, Q)
        self.project(k, s.slope, E, s.projected_slope, Q, job["w_x_t"], E, Q, E, add=True)
        k.call(self._convolution_function(module), job.pointer, scratch, own)
        self._add_weight(k, sums.w_in, U, s.tokens, O, O, s.inner, U, U)
        self.project(k, s.out, O, s.inner, U, job["w_in_t"], O, U, O)
        self.store_tokens(module, k, job, block, "dtokens", s.out, count)

    def _add_weight(self, k, c, c_row, a, a_row, rows, b, b_row, columns) -> None:
        """c += aᵀ·b over the rows at a time."""
        sizes = {"inner": self.rows, "rows": rows, "vectors": columns / k.lanes}
        product(k, (c, c_row), (a, a_row, 1), (b, b_row), **sizes, scale=1.0, rows_at_once=k.owner.tile[0])

    def _scan_function(self, module: Module) -> ir.Function:
        """scan(job, scratch, sums): gated y to `mixed`, gradients to `slope`, z's place and `projected_slope`."""

        def body(k: Code, pointer: Value, scratch: Value, own: Value) -> None:
            job = Job(k, pointer, self.signature)
            s, sums = self._arrays(k, job, scratch), self._sums(own, job)
            with k.loop(self.sequences) as m:
                k.fill(s.reduced, job.Q * (self.tokens * k.lanes))
                with k.loop(job.E, step=k.lanes) as d:
                    self._scan_channels(k, job, m, d, s, sums)
                self._reduce(k, job, m, s)

        return module.once("scan", lambda: module.function("scan", "ppp", body))

    def _scan_channels(self, k: Code, job: Job, m: Value, d: Value, s, sums) -> None:
        """One vector of channels of one sequence."""
        lanes, E = k.lanes, job.E
        mixed = lambda t: s.mixed + (m * self.tokens + t) * E + d  # noqa: E731
        gate = lambda t: s.inner + (m * self.tokens + t) * job.U + E + d  # noqa: E731
        slope = lambda t: s.slope + (m * self.tokens + t) * E + d  # noqa: E731
        maps = lambda t: s.projected + (m * self.tokens + t) * job.Q  # noqa: E731
        place = lambda t, n: (n + t * self.states) * lanes  # noqa: E731

        def keep(t: int, n: Value, state: Value, decay: Value | None) -> None:
            k.store(state, s.states, place(t, n))
            if decay is not None:
                k.store(decay, s.decays, place(t, n))

        raw, steps, inputs, asked = {}, {}, {}, {}
        skip = k.zero()
        for block in self.blocks():
            for t in block:
                raw[t] = self.raw_step(k, job, maps(t), d)
                steps[t], inputs[t] = softplus(k, raw[t]), k.load(mixed(t))
            own_steps, own_inputs = ([table[t] for t in block] for table in (steps, inputs))
            y = self.scan_block(k, job, block, d, maps, own_steps, own_inputs, s.carried, keep)
            for t, value in zip(block, y, strict=True):
                opened, by_gate = silu_and_slope(k, k.load(gate(t)))
                cotangent = k.load(slope(t))
                k.store(value * opened, mixed(t))
                k.store(cotangent * value * by_gate, gate(t))
                asked[t] = cotangent * opened
                skip = k.fma(asked[t], inputs[t], skip)
        k.accumulate(skip, sums.d, d)
        for block in reversed(self.blocks()):
            by_input, by_rate = self._adjoint_block(k, job, block, d, maps, place, steps, inputs, asked, s, sums)
            for i, t in enumerate(block):
                k.store(k.fma(by_input[i], steps[t], k.load(job["d"], d) * asked[t]), slope(t))
                by_step = k.fma(by_input[i], inputs[t], by_rate[i] * LN_2) * sigmoid(k, raw[t])
                k.accumulate(by_step, sums.dt_bias, d)
                with k.loop(job.K) as r:
                    weight = k.load(job["w_dt"] + r * E, d)
                    number = r + 2 * self.states
                    k.accumulate(by_step * weight, s.reduced, (number + job.Q * t) * lanes)
                    k.accumulate(by_step * k.broadcast(maps(t), number), sums.w_dt, r * E + d)

    def _adjoint_block(self, k, job, block, d, maps, place, steps, inputs, asked, s, sums):
        """Gradients of Δ·x, and of log₂ of the decays over the rates, for a block's tokens; sums for b, c and rates."""
        lanes, zero = k.lanes, k.zero()
        by_input, by_rate = [k.cell(zero) for _ in block], [k.cell(zero) for _ in block]
        with k.loop(self.states) as n:
            rate = k.load(job["rates"] + n * job.E, d)
            later = k.load(s.carried, n * lanes) if block.stop < self.tokens else None
            of_rate = zero
            for i, t in reversed(list(enumerate(block))):
                adjoint = k.broadcast(maps(t), n + self.states) * asked[t]
                if later is not None:
                    adjoint = adjoint + later
                reduced = s.reduced + (n + job.Q * t) * lanes
                k.accumulate(adjoint * (steps[t] * inputs[t]), reduced)
                k.accumulate(k.load(s.states, place(t, n)) * asked[t], reduced, self.states * lanes)
                by_input[i].set(k.fma(adjoint, k.broadcast(maps(t), n), by_input[i].get()))
                if t:
                    later = k.load(s.decays, place(t, n)) * adjoint
                    through = later * k.load(s.states, place(t - 1, n))
                    of_rate = k.fma(through, steps[t], of_rate)
                    by_rate[i].set(k.fma(through, rate, by_rate[i].get()))
            k.accumulate(of_rate, sums.rates, n * job.E + d)
            if block.start:
                k.store(later, s.carried, n * lanes)
        return [cell.get() for cell in by_input], [cell.get() for cell in by_rate]

    def _reduce(self, k: Code, job: Job, m: Value, s) -> None:
        """Sums over the lanes of what the channels ask of b, c and the low-rank dt."""
        with k.loop(self.tokens) as t, k.loop(job.Q, step=k.lanes) as q:
            rows = s.reduced + (q + t * job.Q) * k.lanes
            total = sum_of_rows(k, [k.load(rows, i * k.lanes) for i in range(k.lanes)])
            k.store(total, s.projected_slope, (m * self.tokens + t) * job.Q + q)

    def _convolution_function(self, module: Module) -> ir.Function:
        """convolution(job, scratch, sums): gradient of the convolution's input, in its place, from `slope`."""

        def body(k: Code, pointer: Value, scratch: Value, own: Value) -> None:
            job = Job(k, pointer, self.signature)
            s, sums = self._arrays(k, job, scratch), self._sums(own, job)
            with k.loop(self.sequences) as m, k.loop(job.E, step=k.lanes) as d:
                first = s.inner + m * self.tokens * job.U
                slopes = {}
                for t in range(self.tokens):
                    _, by_sum = silu_and_slope(k, self.convolved(k, job, first, job.U, d, t))
                    slopes[t] = k.load(s.slope + (m * self.tokens + t) * job.E, d) * by_sum
                k.accumulate(sum(list(slopes.values())[1:], slopes[0]), sums.bias, d)
                inputs = [k.load(first + job.U * t, d) for t in range(self.tokens)]
                for j in range(self.taps):
                    shift = self.taps - 1 - j
                    total = k.zero()
                    for t in range(shift, self.tokens):
                        total = k.fma(slopes[t], inputs[t - shift], total)
                    k.accumulate(total, sums.kernel, job.E * j + d)
                for t in range(self.tokens):
                    total = k.zero()
                    for j in range(self.taps):
                        asked = t + self.taps - 1 - j
                        if asked < self.tokens:
                            total = k.fma(k.load(job["kernel"] + job.E * j, d), slopes[asked], total)
                    k.store(total, first + job.U * t, d)

        return module.once("convolution", lambda: module.function("convolution", "ppp", body))

    def _add_slices(self, k: Code, job: Job, unit: Value) -> None:
        """A part of the row: the slices added in their order."""
        parts = k.minimum(job.T / ROWS, SLICES)
        with k.loop(job.T * (unit + 1) / parts, start=job.T * unit / parts) as i:
            total = k.cell(k.float(0.0))
            with k.loop(self._slices(k, job)) as slice_:
                total.add(k.scalar(job.shared + slice_ * job.T, i))
            k.store(total.get(), job["sums"], i)
