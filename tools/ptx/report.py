"""What an execution found: faults, and counts of what the warps did."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class Traffic:
    """Accesses of one kind to one memory.

    Attributes:
      requests: warp instructions.
      sectors: different blocks of 32 bytes, request by request; what a GPU moves.
      bytes: what the threads asked for.
    """

    requests: int = 0
    sectors: int = 0
    bytes: int = 0


class Report:
    """Faults and counts of one launch.

    Attributes:
      faults: occurrences by (kind, instruction).
      opcodes: warp instructions by opcode; one that its guard switches off counts too.
      traffic: by (operation, memory), such as ("load", "global"); `execute_addresses` counts it.
      warps: warps that ran.
      shared_bytes: end of the highest access to shared memory.
    """

    def __init__(self) -> None:
        self.faults: collections.Counter[tuple[str, str]] = collections.Counter()
        self.opcodes: collections.Counter[str] = collections.Counter()
        self.traffic: collections.defaultdict[tuple[str, str], Traffic] = collections.defaultdict(Traffic)
        self.warps = 0
        self.shared_bytes = 0
        self._examples: dict[tuple[str, str], str] = {}

    def add(self, kind: str, instruction: str, machine: Any, threads: np.ndarray, addresses: Any = None) -> None:
        """Notes a fault of these threads (indices into the machine's)."""
        if not len(threads):
            return
        key = (kind, instruction)
        self.faults[key] += len(threads)
        if key not in self._examples:
            first = int(threads[0])
            where = f"block {int(machine.block[first])}, thread {int(machine.thread[first] % machine.threads)}"
            self._examples[key] = where + ("" if addresses is None else f", address {int(addresses[0]):#x}")

    @property
    def kinds(self) -> dict[str, int]:
        """Occurrences by kind of fault."""
        kinds: collections.Counter[str] = collections.Counter()
        for (kind, _), count in self.faults.items():
            kinds[kind] += count
        return dict(kinds)

    @property
    def instructions(self) -> int:
        """Warp instructions executed."""
        return sum(self.opcodes.values())

    def count(self, *roots: str) -> int:
        """Warp instructions whose opcode begins with one of these."""
        return sum(count for opcode, count in self.opcodes.items() if opcode.startswith(roots))

    def __str__(self) -> str:
        """One line a fault, the most frequent first."""
        lines = [
            f"{count} × {kind}: `{instruction}`, first in {self._examples[kind, instruction]}"
            for (kind, instruction), count in self.faults.most_common()
        ]
        return "\n".join(lines) or "no faults"
