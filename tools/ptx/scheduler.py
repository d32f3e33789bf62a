"""Runs a kernel's blocks for all threads of a machine: branches, reconvergence, barriers.

Each thread has a basic block that it runs next. The lowest of them runs, for all threads that stand there, so that
branches meet again. A thread at a barrier waits for its block.
"""

from __future__ import annotations

import collections
from typing import Literal

import numpy as np

from tools.ptx.errors import UnsupportedError
from tools.ptx.machine import Machine, Mask
from tools.ptx.translator import EXIT, Block, Kernel
from tools.ptx.warp import WARP

# "together": all warps step by step. "first" and "last": one warp of a block at a time, up to its barrier, in either
# order; a barrier that is missing then changes results.
Order = Literal["together", "first", "last"]
MAX_STEPS = 10_000_000  # basic blocks; only a damaged kernel runs longer


def run(kernel: Kernel, machine: Machine, order: Order) -> None:
    """Runs all threads of a machine to their end.

    Raises:
      RuntimeError: they do not end.
    """
    threads = _Threads(kernel, machine, order)
    with np.errstate(all="ignore"):
        for _ in range(MAX_STEPS):
            if not threads.step():
                threads.count_opcodes()
                return
    raise RuntimeError(f"{kernel.entry.name} has run {MAX_STEPS} basic blocks and has not ended")


class _Threads:
    """Where each thread is.

    Attributes:
      together: the block in which all threads are; None if they are in different ones, or the order forbids it.
      position: the block of each thread while `together` is None.
      waiting: number of the barrier at which a thread waits, or -1.
    """

    def __init__(self, kernel: Kernel, machine: Machine, order: Order) -> None:
        self.kernel, self.machine, self.order = kernel, machine, order
        self.registers = list(kernel.registers)
        self.position = np.zeros(machine.width, np.int32)
        self.waiting = np.full(machine.width, -1, np.int32)
        one_warp = machine.threads <= WARP
        self.may_join = order == "together" or one_warp
        self.together: int | None = 0 if self.may_join else None
        self.visits: collections.Counter[int] = collections.Counter()

    def step(self) -> bool:
        """Runs one block; False if all threads have ended."""
        if self.together is not None:
            if self.together == EXIT:
                return False
            self._run(self.together, None)
            return True
        alive = self.position != EXIT
        if not alive.any():
            return False
        ready = alive & (self.waiting < 0)
        if not ready.any():
            self._open_barriers(alive)
            return True
        if not self.may_join:
            warps = self.machine.warp_in_block[ready]
            ready &= self.machine.warp_in_block == (warps.min() if self.order == "first" else warps.max())
        number = int(self.position[ready].min())
        self._run(number, ready & (self.position == number))
        return True

    def _run(self, number: int, mask: Mask) -> None:
        block = self.kernel.blocks[number]
        warps = self.machine.width // WARP if mask is None else int(mask.reshape(-1, WARP).any(1).sum())
        self.visits[number] += warps
        predicate = block.run(self.machine, self.registers, mask)
        if block.barrier:
            self._reach_barrier(block, predicate, mask)
        elif block.other is None:
            self._go(block.target, mask)
        elif predicate.size == 1 or predicate.all() or not predicate.any():
            self._go(block.target if predicate[0] else block.other, mask)
        else:
            self._go(np.where(predicate, block.target, block.other), mask)

    def _go(self, target: int | np.ndarray, mask: Mask) -> None:
        if mask is None and isinstance(target, int):
            self.together = target
            return
        self.together = None
        self.position = np.where(True if mask is None else mask, target, self.position).astype(np.int32)
        self._join()

    def _join(self) -> None:
        first = int(self.position[0])
        if self.may_join and (self.waiting < 0).all() and (self.position == first).all():
            self.together = first

    def _reach_barrier(self, block: Block, number: np.ndarray, mask: Mask) -> None:
        machine = self.machine
        if block.barrier_threads not in (None, machine.threads):
            raise UnsupportedError(
                f"the PTX interpreter knows barriers of all {machine.threads} threads of a block, found `{block.text}`"
            )
        if mask is None:
            machine.barriers += 1
            self.together = block.target
            return
        whole = mask.reshape(-1, WARP)
        if (whole.any(1) & ~whole.all(1)).any():
            machine.report.add("barrier in a warp that has split", block.text, machine, np.flatnonzero(mask))
        self.waiting = np.where(mask, number, self.waiting).astype(np.int32)
        self.position[mask] = block.target

    def _open_barriers(self, alive: np.ndarray) -> None:
        """Lets all threads go that wait; reports blocks whose threads do not all wait at the same barrier."""
        shape = (-1, self.machine.threads)
        position, number = self.position.reshape(shape), self.waiting.reshape(shape)
        split = ((position != position[:, :1]) | (number != number[:, :1])).any(1)
        split = np.repeat(split, self.machine.threads)
        culprits = np.flatnonzero(split & alive)
        self.machine.report.add("barrier that not all threads reach", "bar.sync", self.machine, culprits)
        self.machine.barriers += 1
        self.waiting[:] = -1
        self._join()

    def count_opcodes(self) -> None:
        for number, visits in self.visits.items():
            for opcode, count in self.kernel.blocks[number].opcodes.items():
                self.machine.report.opcodes[opcode] += visits * count
        self.machine.report.warps += self.machine.width // WARP
