"""Runs a launch: lays out its buffers, runs its blocks, returns its outputs and what was found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.ptx import scheduler
from tools.ptx.machine import GLOBAL_START, Machine
from tools.ptx.memory import Addresses, Memory
from tools.ptx.report import Report
from tools.ptx.translator import Kernel, translate

GUARD = 512  # bytes between buffers that nothing may access
THREADS = 16384  # threads that run at once


@dataclasses.dataclass(frozen=True)
class Launch:
    """A compiled kernel and how it is launched.

    Attributes:
      name: of the kernel, as the program calls it.
      ptx: its text.
      entry: the first letters of its name in the text.
      grid: blocks.
      threads: of a block.
      inputs: shape and dtype of each.
      outputs: shape and dtype of each.
      aliases: output by input that shares its memory.
      shared_bytes: shared memory of a block.
      order: the buffer, inputs before outputs, of each parameter; empty if they are in order.
    """

    name: str
    ptx: str
    entry: str
    grid: tuple[int, int, int]
    threads: tuple[int, int, int]
    inputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    aliases: dict[int, int] = dataclasses.field(default_factory=dict)
    shared_bytes: int = 0
    order: tuple[int, ...] = ()

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)


@dataclasses.dataclass(frozen=True)
class _Buffer:
    start: int
    size: int
    content: np.ndarray | None
    writable: bool


def execute(
    launch: Launch, arrays: Sequence[np.ndarray], *, order: scheduler.Order = "together", noise: float = 0.0
) -> tuple[list[np.ndarray], Report]:
    """Runs a launch on arrays.

    Args:
      launch: what to run.
      arrays: its inputs.
      order: of the warps of a block.
      noise: relative error added to the results of approximate instructions, such as 2⁻²² = 2.4e-7.

    Returns:
      The outputs, and faults and counts.
    """
    kernel = translate(launch.ptx, launch.entry)
    buffers, places = _layout(launch, [np.asarray(array) for array in arrays])
    memory = Memory("global", buffers[-1].start + buffers[-1].size + GUARD, kernel.grain)
    for buffer in buffers:
        memory.allocate(buffer.start, buffer.size, buffer.content, writable=buffer.writable)
    shared_bytes, parameters = _shared_bytes(launch, kernel), _parameters(launch, kernel, buffers, places)
    report = Report()
    together = max(1, THREADS // math.prod(launch.threads))
    for first in range(0, launch.blocks, together):
        blocks = np.arange(first, min(first + together, launch.blocks))
        shared = Memory("shared", shared_bytes * len(blocks), kernel.grain)
        shared.allocate(0, shared_bytes * len(blocks))
        machine = Machine(launch.grid, launch.threads, blocks, (memory, shared), shared_bytes, report, noise)
        machine.parameters = parameters
        scheduler.run(kernel, machine, order)
    outputs = []
    for (shape, dtype), place in zip(launch.outputs, places[len(launch.inputs) :], strict=True):
        content = memory.content(buffers[place].start, buffers[place].size)
        outputs.append(content.view(dtype).reshape(shape))
    return outputs, report


def execute_addresses(launch: Launch, blocks: Sequence[int] | None = None) -> Report:
    """Runs some blocks for their addresses and instructions only: all loads give 0 and no memory is needed.

    So it suits kernels whose addresses and branches do not depend on loaded numbers.

    Args:
      launch: what to run; its arrays may be larger than any memory.
      blocks: numbers of the blocks; None means the first, the last and two neighbours in the middle.
    """
    kernel = translate(launch.ptx, launch.entry)
    buffers, places = _layout(launch, None)
    middle = launch.blocks // 2
    chosen = np.unique([0, middle, min(middle + 1, launch.blocks - 1), launch.blocks - 1] if blocks is None else blocks)
    memory = Addresses([(buffer.start, buffer.size) for buffer in buffers])
    shared_bytes = _shared_bytes(launch, kernel)
    shared = Addresses([(0, shared_bytes * len(chosen))])
    report = Report()
    machine = Machine(launch.grid, launch.threads, chosen, (memory, shared), shared_bytes, report)
    machine.parameters = _parameters(launch, kernel, buffers, places)
    scheduler.run(kernel, machine, "together")
    return report


def _layout(launch: Launch, arrays: list[np.ndarray] | None) -> tuple[list[_Buffer], list[int]]:
    """Buffers in the order of their addresses, and the buffer of each input and output."""
    buffers: list[_Buffer] = []
    places: list[int] = []
    of_output = {output: source for source, output in launch.aliases.items()}
    for number, (shape, dtype) in enumerate((*launch.inputs, *launch.outputs)):
        output = number - len(launch.inputs)
        if output in of_output:
            places.append(places[of_output[output]])
            continue
        start = math.ceil((buffers[-1].start + buffers[-1].size if buffers else 0) / 256) * 256 + GUARD
        content = arrays[number] if arrays is not None and output < 0 else None
        if content is not None and (content.shape, content.dtype) != (shape, dtype):
            raise ValueError(
                f"{launch.name}: input {number} is {content.dtype}{content.shape}, the kernel was compiled for "
                f"{dtype}{shape}"
            )
        places.append(len(buffers))
        buffers.append(_Buffer(start, _bytes(shape, dtype), content, output >= 0 or number in launch.aliases))
    return buffers, places


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _shared_bytes(launch: Launch, kernel: Kernel) -> int:
    return math.ceil(max(16, launch.shared_bytes, kernel.entry.shared_bytes) / 16) * 16


def _parameters(launch: Launch, kernel: Kernel, buffers: list[_Buffer], places: list[int]) -> dict[str, int]:
    """Pointers; Triton's parameters for scratch memory, after those of the buffers, are null."""
    names = kernel.entry.parameters
    order = launch.order or range(len(places))
    pointers = [GLOBAL_START + buffers[places[buffer]].start for buffer in order]
    return dict.fromkeys(names, 0) | dict(zip(names, pointers, strict=False))
