"""The threads of some blocks, which execute each instruction at once: what they are and how they access memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tools.ptx.errors import UnsupportedError
from tools.ptx.history import Moment
from tools.ptx.memory import UNSIGNED, Addresses, Memory, count_traffic
from tools.ptx.report import Report
from tools.ptx.warp import WARP

GLOBAL_START = 1 << 40  # address of the first byte of global memory; shared memory starts at 0

Mask = np.ndarray | None  # the threads that execute an instruction; None means all


class Machine:
    """The threads of some blocks.

    Attributes:
      width: number of threads.
      threads: threads of a block.
      block: block of each thread, by its number in the grid.
      thread: number of each thread in the grid.
      lane: place of each thread in its warp.
      special: special registers by name.
      parameters: values of the kernel's parameters by name.
      sources: of shuffles, by kind, distance and limits; see `tools.ptx.warp`.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        threads: tuple[int, int, int],
        blocks: np.ndarray,
        memories: tuple[Memory | Addresses, Memory | Addresses],
        shared_bytes: int,
        report: Report,
        noise: float = 0.0,
    ) -> None:
        """`blocks` are numbers; `memories` the global one and the shared one, with `shared_bytes` for each block."""
        if math.prod(threads) % WARP:
            raise UnsupportedError(f"the PTX interpreter knows whole warps only, found blocks of {threads} threads")
        self.threads, self.width = math.prod(threads), math.prod(threads) * len(blocks)
        self.block = np.repeat(blocks.astype(np.int64), self.threads)
        within = np.tile(np.arange(self.threads, dtype=np.uint32), len(blocks))
        self.thread = self.block * self.threads + within
        self.lane, self.warp_in_block = within % np.uint32(WARP), within // np.uint32(WARP)
        self.place = np.repeat(np.arange(len(blocks)), self.threads)
        self.barriers, self.syncs, self.steps = np.zeros((3, self.width), np.int32)
        self.special = _special_registers(grid, threads, self.block, within)
        self.parameters: dict[str, int] = {}
        self.sources: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = {}
        self.report = report
        self._memories = {"global": memories[0], "shared": memories[1]}
        self._shared_bytes, self._noise = shared_bytes, noise
        self._counts_traffic = isinstance(memories[0], Addresses)  # which is slow
        self._random = np.random.default_rng(0)
        self._everyone = np.arange(self.width)

    def spread(self, *values: np.ndarray) -> list[np.ndarray]:
        """One element for each thread."""
        return [value if len(value) == self.width else np.repeat(value, self.width) for value in values]

    def both(self, mask: Mask, predicate: np.ndarray) -> Mask:
        """The threads of a mask whose predicate is true."""
        if len(predicate) == 1:
            return mask if predicate[0] else np.zeros(self.width, bool)
        return predicate if mask is None else mask & predicate

    def parameter(self, name: str, size: int) -> np.ndarray:
        return np.array([self.parameters[name]], np.uint64).astype(UNSIGNED[size])

    def perturb(self, x: np.ndarray, scale: Any = None) -> np.ndarray:
        """The result of an approximate instruction: wrong by `noise`, relative to itself or to `scale`."""
        if not self._noise:
            return x
        sign = self._random.choice([-self._noise, self._noise], x.shape)
        return x + sign * (np.abs(x) if scale is None else scale)

    def sync_warp(self, mask: Mask) -> None:
        """`bar.warp.sync`."""
        self.syncs[slice(None) if mask is None else mask] += 1
        self.pass_together(mask)

    def pass_together(self, mask: Mask) -> None:
        """Notes that the warps have executed one instruction together."""
        self.steps[slice(None) if mask is None else mask] += 1

    def pass_unsplit(self, mask: Mask) -> None:
        """Notes that those warps which are in the mask as a whole have executed one instruction together."""
        if mask is not None:
            mask = np.repeat(mask.reshape(-1, WARP).all(1), WARP)
        self.pass_together(mask)

    def load(self, space: str, address: np.ndarray, size: int, count: int, mask: Mask, text: str) -> list[np.ndarray]:
        """The bits of `count` neighbours of `size` bytes; all ones for threads that do not load."""
        active, offset = self._locate("load", space, address, size * count, mask, text)
        found, faults = self._memories[space].load(offset, size, count, self._moment(active))
        self._add(faults, active, offset, text)
        values = []
        for bits in found:
            value = np.full(self.width, -1, np.int64).astype(UNSIGNED[size])
            value[active] = bits
            values.append(value)
        return values

    def store(
        self, space: str, address: np.ndarray, values: list[np.ndarray], size: int, mask: Mask, text: str
    ) -> None:
        """Stores neighbours of `size` bytes each."""
        active, offset = self._locate("store", space, address, size * len(values), mask, text)
        bits = [value.astype(UNSIGNED[size])[active] for value in self.spread(*values)]
        self._add(self._memories[space].store(offset, size, bits, self._moment(active)), active, offset, text)

    def _locate(
        self, operation: str, space: str, address: np.ndarray, size: int, mask: Mask, text: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Threads that access memory and their offsets into it; without those that must not, which are reported."""
        active = self._everyone if mask is None else np.flatnonzero(mask)
        address = self.spread(address)[0].astype(np.int64)
        if mask is not None:
            address = address[active]
        if space == "shared":
            offset = address + self.place[active] * self._shared_bytes
            inside = (address >= 0) & (address + size <= self._shared_bytes)
            self.report.shared_bytes = max(self.report.shared_bytes, int(address.max(initial=-size)) + size)
        else:
            offset = address - GLOBAL_START
            inside = self._memories[space].inside(offset, size)
        aligned = address % size == 0
        if self._counts_traffic:
            count_traffic(self.report, operation, space, active // WARP, offset, size)
        good = inside & aligned
        if good.all():
            return active, offset
        self.report.add(f"{operation} out of bounds of {space} memory", text, self, active[~inside], address[~inside])
        self.report.add(f"{operation} not aligned in {space} memory", text, self, active[~aligned], address[~aligned])
        return active[good], offset[good]

    def _moment(self, active: np.ndarray) -> Moment:
        everyone = Moment(self.thread, self.barriers, self.syncs, self.steps, self.threads)
        return everyone.take(active)

    def _add(self, faults: list[tuple[str, np.ndarray]], active: np.ndarray, offset: np.ndarray, text: str) -> None:
        for kind, culprits in faults:
            if culprits.any():
                self.report.add(kind, text, self, active[culprits], offset[culprits])


def _special_registers(grid, threads, block: np.ndarray, within: np.ndarray) -> dict[str, np.ndarray]:
    registers = {"%laneid": within % np.uint32(WARP), "%warpid": within // np.uint32(WARP)}
    numbers = {"%tid": (within, threads), "%ctaid": (block.astype(np.uint32), grid)}
    for name, (number, sizes) in numbers.items():
        for axis, size in zip("xyz", sizes, strict=True):
            registers[f"{name}.{axis}"] = number % np.uint32(size)
            number = number // np.uint32(size)
    for name, sizes in (("%ntid", threads), ("%nctaid", grid)):
        registers |= {f"{name}.{axis}": np.array([size], np.uint32) for axis, size in zip("xyz", sizes, strict=True)}
    return registers
