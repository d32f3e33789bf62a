"""Finds races: two accesses to one place, one of them a store, by different threads, with nothing to order them.

Accesses of one block are ordered by a barrier between them, those of one warp also by `bar.warp.sync`. A load before
a store of the same warp is ordered by any instruction that the warp executes together: a shuffle, or the load itself
if the warp has not split, since it then loads for all threads at once. (PTX does not promise that, GPUs do it, and
Triton relies on it where several threads hold the same number.) Nothing orders two blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

NOBODY = -1
# How far apart the threads are that read a place: ALONE is one thread.
ALONE, WARP, BLOCK, GRID = range(4)
SCOPES = ("thread", "same warp", "same block", "other block")


@dataclasses.dataclass(frozen=True)
class Moment:
    """Who accesses memory, and what these threads have passed: one element a thread.

    Attributes:
      thread: number in the grid.
      barriers: block barriers passed.
      syncs: warp barriers passed.
      steps: instructions passed that the whole warp executes together.
      block_threads: threads of a block.
    """

    thread: np.ndarray
    barriers: np.ndarray
    syncs: np.ndarray
    steps: np.ndarray
    block_threads: int

    def scope(self, other: np.ndarray) -> np.ndarray:
        """How far the `other` threads are from these."""
        block = self.block_threads
        same_block = other // block == self.thread // block
        same_warp = same_block & (other % block // 32 == self.thread % block // 32)
        scope = np.where(same_warp, WARP, np.where(same_block, BLOCK, GRID))
        return np.where(other == self.thread, ALONE, scope)

    def take(self, where: np.ndarray) -> Moment:
        barriers, syncs, steps = self.barriers[where], self.syncs[where], self.steps[where]
        return Moment(self.thread[where], barriers, syncs, steps, self.block_threads)


class History:
    """The last store to each place and the loads since, for `size` places."""

    def __init__(self, size: int) -> None:
        self.writer, self.reader = np.full((2, size), NOBODY, np.int64)
        self.write_barriers, self.write_syncs, self.read_barriers, self.read_steps = np.zeros((4, size), np.int32)
        self.spread = np.zeros(size, np.int8)

    def load(self, at: np.ndarray, now: Moment) -> Iterator[tuple[str, np.ndarray]]:
        """Notes loads from places `at`; yields pairs of a kind of race and the accesses that take part."""
        yield from self._after_store(at, now, "load after store")
        reader = self.reader[at]
        known = reader != NOBODY
        scope = np.where(known, now.scope(reader), ALONE)
        before = np.where(known, self.spread[at], ALONE)
        # Loads before the block's last barrier no longer matter to this block, those of another block always do.
        ordered = known & (scope <= BLOCK) & (before <= BLOCK) & (self.read_barriers[at] != now.barriers)
        spread = np.where(ordered, ALONE, np.maximum(before, scope)).astype(np.int8)
        self.reader[at], self.read_barriers[at], self.read_steps[at] = now.thread, now.barriers, now.steps
        self.spread[at] = spread
        spread = np.maximum(spread, now.scope(self.reader[at])).astype(np.int8)  # several threads of this very load
        for level in (WARP, BLOCK, GRID):
            self.spread[at[spread == level]] = level

    def store(self, at: np.ndarray, now: Moment) -> Iterator[tuple[str, np.ndarray]]:
        """Notes stores to places `at`; yields as `load` does."""
        yield from self._after_store(at, now, "store after store")
        reader, spread = self.reader[at], self.spread[at]
        scope = np.where(reader == NOBODY, ALONE, np.maximum(now.scope(reader), np.where(spread == GRID, GRID, ALONE)))
        recent = self.read_barriers[at] == now.barriers
        others = (scope != ALONE) | ((spread != ALONE) & (reader != NOBODY))
        in_warp = (scope <= WARP) & (spread <= WARP)
        ordered = (scope <= BLOCK) & (~recent | (in_warp & (self.read_steps[at] != now.steps)))
        yield from _by_scope("store after load", others & ~ordered, np.maximum(scope, spread))
        self.writer[at], self.write_barriers[at], self.write_syncs[at] = now.thread, now.barriers, now.syncs
        self.reader[at], self.spread[at] = NOBODY, ALONE
        yield "store of two threads at once", self.writer[at] != now.thread

    def _after_store(self, at: np.ndarray, now: Moment, kind: str) -> Iterator[tuple[str, np.ndarray]]:
        writer = self.writer[at]
        if not (writer != NOBODY).any():
            return
        scope = np.where(writer == NOBODY, ALONE, now.scope(writer))
        ordered = (scope <= BLOCK) & (self.write_barriers[at] != now.barriers)
        ordered |= (scope == WARP) & (self.write_syncs[at] != now.syncs)
        yield from _by_scope(kind, (scope != ALONE) & ~ordered, scope)


def _by_scope(kind: str, race: np.ndarray, scope: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if race.any():
        for level in (WARP, BLOCK, GRID):
            yield f"{kind}, {SCOPES[level]}", race & (scope == level)
