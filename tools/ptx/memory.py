"""Memories: bytes, and for each granule of them whether it is allocated, written, and by whom.

A granule is as large as the smallest access of the kernel.
"""

from __future__ import annotations

import math

import numpy as np

from tools.ptx.history import History, Moment
from tools.ptx.report import Report

ALLOCATED, INITIALISED, WRITABLE = 1, 2, 4
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Memory:
    """A checked memory, global or shared.

    Attributes:
      name: "global" or "shared".
      size: in bytes.
    """

    def __init__(self, name: str, size: int, grain: int) -> None:
        self.name, self.grain = name, grain
        self.size = math.ceil(size / 16) * 16
        self._bytes = np.full(self.size, 0xFF, np.uint8)  # NaN, if it is read as a float
        self._state = np.zeros(self.size // grain + 1, np.uint8)
        self._history = History(len(self._state))

    def allocate(self, start: int, size: int, content: np.ndarray | None = None, *, writable: bool = True) -> None:
        """Makes `size` bytes from `start` accessible; with `content` they are initialised."""
        granules = slice(start // self.grain, math.ceil((start + size) / self.grain))
        self._state[granules] |= ALLOCATED | (WRITABLE if writable else 0)
        if content is not None:
            self._state[granules] |= INITIALISED
            self._bytes[start : start + size] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)

    def content(self, start: int, size: int) -> np.ndarray:
        """A copy of these bytes."""
        return self._bytes[start : start + size].copy()

    def inside(self, offset: np.ndarray, size: int) -> np.ndarray:
        """Which accesses of `size` bytes lie in allocated memory."""
        within = (offset >= 0) & (offset + size <= self.size)
        offset = np.where(within, offset, 0)
        first, last = offset // self.grain, (offset + size - 1) // self.grain
        return within & ((self._state[first] & self._state[last] & ALLOCATED) != 0)

    def load(
        self, offset: np.ndarray, size: int, count: int, now: Moment
    ) -> tuple[list[np.ndarray], list[tuple[str, np.ndarray]]]:
        """Loads `count` neighbours of `size` bytes each; returns their bits, and pairs of a fault and the culprits."""
        data = self._bytes.view(UNSIGNED[size])
        faults = []
        for start in range(0, size * count, self.grain):
            granule = (offset + start) // self.grain
            state = self._state[granule]
            faults.append((f"load of uninitialised {self.name} memory", (state & INITIALISED) == 0))
            shared = (state & WRITABLE) != 0  # an input that nobody writes needs no history
            if shared.all():
                faults += self._races(self._history.load(granule, now))
            elif shared.any():
                chosen = np.flatnonzero(shared)
                for kind, who in self._races(self._history.load(granule[chosen], now.take(chosen))):
                    culprits = np.zeros(len(offset), bool)
                    culprits[chosen] = who
                    faults.append((kind, culprits))
        return [data[offset // size + number] for number in range(count)], faults

    def store(
        self, offset: np.ndarray, size: int, values: list[np.ndarray], now: Moment
    ) -> list[tuple[str, np.ndarray]]:
        """Stores neighbours of `size` bytes each; returns pairs of a fault and the culprits.

        Several threads may store the same number to shared memory: Triton does, where a layout repeats it.
        """
        data = self._bytes.view(UNSIGNED[size])
        changed, lost = np.zeros((2, len(offset)), bool)
        for number, value in enumerate(values):
            place = offset // size + number
            changed |= data[place] != value
            data[place] = value
        for number, value in enumerate(values):
            lost |= data[offset // size + number] != value  # against another thread of this very store
        faults = []
        for start in range(0, size * len(values), self.grain):
            granule = (offset + start) // self.grain
            faults.append(("store to an input", (self._state[granule] & WRITABLE) == 0))
            for kind, who in self._races(self._history.store(granule, now)):
                if self.name == "shared" and "store after load" not in kind:
                    who = who & (lost if "at once" in kind else changed | lost)
                faults.append((kind, who))
            self._state[granule] |= INITIALISED
        return faults

    def _races(self, found) -> list[tuple[str, np.ndarray]]:
        return [(f"race in {self.name} memory: {kind}", who) for kind, who in found]


class Addresses:
    """A memory too large to hold: checks bounds, loads zeros, stores nothing."""

    def __init__(self, allocations: list[tuple[int, int]]) -> None:
        """`allocations` are (start, size), in increasing order."""
        self._starts = np.array([start for start, _ in allocations], np.int64)
        self._ends = np.array([start + size for start, size in allocations], np.int64)

    def inside(self, offset: np.ndarray, size: int) -> np.ndarray:
        which = np.searchsorted(self._starts, offset, "right") - 1
        return (which >= 0) & (offset + size <= self._ends[which])

    def load(self, offset: np.ndarray, size: int, count: int, now: Moment):
        del now
        return [np.zeros(len(offset), UNSIGNED[size])] * count, []

    def store(self, offset: np.ndarray, size: int, values: list[np.ndarray], now: Moment):
        del offset, size, values, now
        return []


def count_traffic(report: Report, operation: str, name: str, warp: np.ndarray, offset: np.ndarray, size: int) -> None:
    """Counts an instruction's requests, sectors and bytes."""
    if not len(offset):
        return
    traffic = report.traffic[operation, name]
    sectors = [(warp << 44) | (offset + start >> 5) for start in range(0, size, min(size, 32))]
    traffic.requests += len(np.unique(warp))
    traffic.sectors += len(np.unique(np.concatenate(sectors)))
    traffic.bytes += len(offset) * size
