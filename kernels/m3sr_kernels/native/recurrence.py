"""The recurrence of one head over one chunk, the state in registers: what a scan's forward pass spends its time in."""

from __future__ import annotations

from typing import Literal

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import Code, Module, Value

Output = Literal["write", "add", "none"]


def vectors_at_once(module: Module, states: int) -> int:
    """Vectors of a head's channels whose states fit the registers together."""
    return 2 if states * 2 <= 16 and module.tile[0] == 8 else 1


def state_size(k: Code, module: Module, width: Value, states: int) -> Value:
    """Float32 numbers of a head's state."""
    block = vectors_at_once(module, states) * k.lanes
    return (width + (block - 1)) / block * (block * states)


def recurrence_function(module: Module, states: int, output: Output) -> ir.Function:
    """recurrence(pixels, count, steps, state, x, y, xs, b, c, bs, d, width).

    h ← decay·h + Δ·b·x and y = Σ_n c_n·h_n, with + d·x if `output` is "write", added to what y holds if it is "add". xs
    and bs are the strides from pixel to pixel of x and y, and of b and c; `steps` is what `steps` and `store_decays`
    left.
    """
    at_once = vectors_at_once(module, states)

    def body(k, pixels, count, steps, state, x, y, xs, b, c, bs, d, width):
        block = at_once * k.lanes
        with k.loop((width + (block - 1)) / block) as number:
            begin = number * block
            own = state + begin * states
            masks = [k.lanes_below(width - begin - v * k.lanes) for v in range(at_once)]
            places = [(n * at_once + v) * k.lanes for n in range(states) for v in range(at_once)]
            h = [k.cell(k.load(own, place)) for place in places]
            skip = [k.load_masked(mask, d + begin, v * k.lanes) for v, mask in enumerate(masks) if output == "write"]
            with k.loop(count) as i:
                pixel = k.load_int(pixels, i)
                here, maps = x + pixel * xs + begin, pixel * bs
                inputs = [k.load_masked(mask, here, v * k.lanes) for v, mask in enumerate(masks)]
                step, decay = k.broadcast(steps, i + k.lanes), k.broadcast(steps, i + 2 * k.lanes)
                fed = [step * value for value in inputs]
                there = y + pixel * xs + begin
                sums = [[k.zero(), k.zero()] for _ in masks]
                for n in range(states):
                    gain = k.broadcast(b + maps, n)
                    read = None if output == "none" else k.broadcast(c + maps, n)
                    for v in range(at_once):
                        cell = h[n * at_once + v]
                        cell.set(k.fma(decay, cell.get(), gain * fed[v]))
                        if read is not None:
                            sums[v][n % 2] = k.fma(read, cell.get(), sums[v][n % 2])
                for v, mask in enumerate(masks):
                    if output == "none":
                        continue
                    total = sums[v][0] + sums[v][1]
                    if output == "write":
                        total = k.fma(skip[v], inputs[v], total)
                    else:
                        total = total + k.load_masked(mask, there, v * k.lanes)
                    k.store_masked(mask, total, there, v * k.lanes)
            for cell, place in zip(h, places, strict=True):
                k.store(cell.get(), own, place)

    return module.once(("recurrence", output), lambda: module.function(f"recurrence_{output}", "pippppippipi", body))
