"""The block on a CPU: both kernels work on a few sequences at a time, from first projection to last, in the cache.

Weights come padded to whole vectors: E channels (D of them real), O features, Q columns of `w_x` (b, c, then the
low-rank dt). Channels that are padded hold zeros from the first projection to the last. Tokens are unrolled in
blocks of `TOKENS` and stay in registers; states run in a loop, and what passes from block to block is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel
from m3sr_kernels.native.matrix import product
from m3sr_kernels.native.memory import copy_row_function
from m3sr_kernels.native.vector_math import exp2, silu

WEIGHTS = {
    "w_in": "C U",
    "kernel": "J E",
    "bias": "E",
    "w_x": "E Q",
    "w_dt": "K E",
    "dt_bias": "E",
    "rates": "N E",
    "d": "E",
    "w_out": "E O",
}
TOKENS = 4  # unrolled together
ROWS = 8  # what numbers of rows, and padded sizes, are multiples of


class Mixer(Kernel):
    """What both kernels share: sizes that are compiled in are tokens L, states N and taps J."""

    def __init__(self, tokens: int, states: int, taps: int) -> None:
        self.tokens, self.states, self.taps = tokens, states, taps
        self.sequences = 16 if tokens <= 2 else 8  # at a time

    @property
    def rows(self) -> int:
        """Tokens at a time."""
        return self.sequences * self.tokens

    def constraints(self, job: Job) -> Sequence[Value]:
        """Sizes that are compiled in, and padded ones."""
        whole = max(ROWS, job.lanes)
        padded = [(size % whole).equals(0) for size in (job.E, job.O, job.Q)]
        fixed = [job.L.equals(self.tokens), job.N.equals(self.states), job.J.equals(self.taps)]
        return [*padded, *fixed, job.U.equals(job.E * 2), job.O >= job.C, job.K + 2 * self.states <= job.Q]

    def blocks(self) -> list[range]:
        """The tokens that are unrolled together."""
        return [range(first, min(first + TOKENS, self.tokens)) for first in range(0, self.tokens, TOKENS)]

    def count(self, k: Code, job: Job) -> Value:
        """Blocks of sequences."""
        return (job.M + (self.sequences - 1)) / self.sequences

    def load_tokens(self, module: Module, k: Code, job: Job, block: Value, name: str, rows: Value) -> Value:
        """Copies tokens to rows of O numbers, zero where there is none; returns how many there are."""
        first = block * self.rows
        count = k.minimum(job.M * self.tokens - first, self.rows)
        k.fill(rows, job.O * self.rows)
        with k.loop(count) as row:
            k.call(copy_row_function(module), job[name] + (first + row) * job.C, rows + row * job.O, job.C)
        return count

    def store_tokens(self, module: Module, k: Code, job: Job, block: Value, name: str, rows: Value, count) -> None:
        """The inverse of `load_tokens`."""
        with k.loop(count) as row:
            target = job[name] + (block * self.rows + row) * job.C
            k.call(copy_row_function(module), rows + row * job.O, target, job.C)

    def project(self, k: Code, c, c_row, a, a_row, b, b_row, inner, columns, *, add=False) -> None:
        """c = a·b, or c += a·b, for all rows at a time."""
        sizes = {"inner": inner, "rows": self.rows, "vectors": columns / k.lanes}
        product(
            k, (c, c_row), (a, 1, a_row), (b, b_row), **sizes, scale=1.0 if add else None, rows_at_once=k.owner.tile[0]
        )

    def convolved(self, k: Code, job: Job, source: Value, row: Value, d: Value, t: int) -> Value:
        """The causal convolution's output at token t, of the channels from d on."""
        total = k.load(job["bias"], d)
        for j in range(self.taps):
            token = t - self.taps + 1 + j
            if token >= 0:
                total = k.fma(k.load(job["kernel"] + job.E * j, d), k.load(source + row * token, d), total)
        return total

    def convolve_function(self, module: Module) -> ir.Function:
        """convolve(job, source, source_row, target, target_row): SiLU of the convolution; both may be the same."""

        def body(k: Code, pointer: Value, source: Value, source_row: Value, target: Value, target_row: Value) -> None:
            job = Job(k, pointer, self.signature)
            with k.loop(self.sequences) as m, k.loop(job.E, step=k.lanes) as d:
                first, out = source + m * self.tokens * source_row, target + m * self.tokens * target_row
                for t in reversed(range(self.tokens)):  # what later tokens read is still there
                    k.store(silu(k, self.convolved(k, job, first, source_row, d, t)), out + target_row * t, d)

        return module.once("convolve", lambda: module.function("convolve", "ppipi", body))

    def raw_step(self, k: Code, job: Job, projected: Value, d: Value) -> Value:
        """dt + dt_bias of a token, of the channels from d on."""
        total = k.cell(k.load(job["dt_bias"], d))
        with k.loop(job.K) as r:
            weight = k.load(job["w_dt"] + r * job.E, d)
            total.set(k.fma(k.broadcast(projected, r + 2 * self.states), weight, total.get()))
        return total.get()

    def scan_block(
        self,
        k: Code,
        job: Job,
        block: range,
        d: Value,
        projected: Callable[[int], Value],
        steps: Sequence[Value],
        inputs: Sequence[Value],
        carried: Value,
        keep: Callable[[int, Value, Value, Value | None], None] = lambda *_: None,
    ) -> list[Value]:
        """y of a block's tokens; states pass on in `carried`; `keep` gets token, state number, state and decay."""
        y = [k.cell(k.load(job["d"], d) * x) for x in inputs]
        fed = [step * x for step, x in zip(steps, inputs, strict=True)]
        with k.loop(self.states) as n:
            rate = k.load(job["rates"] + n * job.E, d)
            state = k.load(carried, n * k.lanes) if block.start else k.zero()
            for i, t in enumerate(block):
                gained = k.broadcast(projected(t), n) * fed[i]
                decay = exp2(k, steps[i] * rate) if t else None
                state = gained if decay is None else k.fma(decay, state, gained)
                keep(t, n, state, decay)
                y[i].set(k.fma(k.broadcast(projected(t), n + self.states), state, y[i].get()))
            if block.stop < self.tokens:
                k.store(state, carried, n * k.lanes)
        return [cell.get() for cell in y]
