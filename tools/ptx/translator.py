"""Translates a kernel's basic blocks into Python functions over arrays, one element a thread."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tools.ptx import arithmetic, matrix, warp
from tools.ptx.emit import lines_of
from tools.ptx.errors import PtxError, UnsupportedError
from tools.ptx.operands import Operands
from tools.ptx.parser import Entry, Instruction, Label, parse
from tools.ptx.scalars import TYPES, literal, size_of

EXIT = -1
_BARRIERS = ("bar.sync", "barrier.sync", "barrier.cta.sync")
_JUMPS = ("bra", "ret", "exit")


@dataclasses.dataclass(frozen=True)
class Block:
    """Instructions that run one after the other.

    Attributes:
      run: `run(machine, registers, mask)` executes them and returns the predicate of the branch at the end, or the
        number of the barrier there, if any.
      opcodes: instructions by opcode.
      target: where threads go whose predicate is true, or all of them.
      other: where the others go; None without a branch.
      barrier: threads wait for their block at the end.
      barrier_threads: threads that the barrier waits for; None means all of the block.
      text: the last instruction, for messages.
    """

    run: Callable[[Any, list[np.ndarray], np.ndarray | None], Any]
    opcodes: collections.Counter[str]
    target: int
    other: int | None = None
    barrier: bool = False
    barrier_threads: int | None = None
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel that can run.

    Attributes:
      entry: what the parser read.
      blocks: its basic blocks; the first is number 0.
      registers: the value of each register before anything is written to it.
      grain: bytes of its smallest access to memory.
      source: the generated Python.
    """

    entry: Entry
    blocks: list[Block]
    registers: list[np.ndarray]
    grain: int
    source: str


@functools.cache
def translate(ptx: str, name: str) -> Kernel:
    """Translates the kernel whose name begins with `name`.

    Raises:
      PtxError: the text has no such kernel, or is not PTX.
      UnsupportedError: the kernel has an instruction that the interpreter does not know.
    """
    entry = parse(ptx, name)
    pieces, labels = _split(entry)
    operands = Operands(entry)
    ends, lines = [], []
    for number, piece in enumerate(pieces):
        following = number + 1 if number + 1 < len(pieces) else EXIT
        end, predicate = _end(piece[-1] if piece else None, following, labels, operands)
        ends.append(end)
        body = [line for i in piece if not _ends_block(i) for line in lines_of(i, operands)]
        lines += [f"def block{number}(t, r, m):", *(f"    {line}" for line in body), f"    return {predicate}", ""]
    names: dict[str, Any] = {**vars(arithmetic), **TYPES, "np": np, "warp": warp, "matrix": matrix}
    names |= {"put": _put, "k": operands.constants}
    source = "\n".join(lines)
    exec(compile(source, f"<{entry.name}>", "exec"), names)
    blocks = [
        Block(names[f"block{number}"], collections.Counter(i.opcode for i in piece), **end)
        for number, (piece, end) in enumerate(zip(pieces, ends, strict=True))
    ]
    return Kernel(entry, blocks, operands.starts, _grain(pieces), source)


def _put(mask: np.ndarray | None, value: np.ndarray, old: np.ndarray) -> np.ndarray:
    return value if mask is None else np.where(mask, value, old)


def _ends_block(i: Instruction) -> bool:
    return i.parts[0] in _JUMPS or i.opcode.startswith(_BARRIERS)


def _split(entry: Entry) -> tuple[list[list[Instruction]], dict[str, int]]:
    """Basic blocks, and the number of each label's block."""
    pieces: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for statement in entry.statements:
        if isinstance(statement, Label):
            if pieces[-1]:
                pieces.append([])
            labels[statement.name] = len(pieces) - 1
            continue
        pieces[-1].append(statement)
        if _ends_block(statement):
            pieces.append([])
    return pieces, labels


def _end(
    last: Instruction | None, following: int, labels: dict[str, int], operands: Operands
) -> tuple[dict[str, Any], str | None]:
    """The fields of `Block` that say where threads go after it, and the text of what its `run` returns."""
    if last is None or not _ends_block(last):
        return {"target": following}, None
    if last.parts[0] not in _JUMPS:
        number, *count = last.operands
        threads = [literal(operand) for operand in count]
        if last.guard or None in threads:
            raise UnsupportedError(f"the PTX interpreter knows unconditional barriers only, found `{last.text}`")
        end = {"target": following, "barrier": True, "text": last.text}
        return end | ({"barrier_threads": threads[0]} if threads else {}), operands.value(number, "u32")
    target = EXIT
    if last.parts[0] == "bra":
        if last.operands[0] not in labels:
            raise PtxError(f"`{last.text}` leads to a label that does not exist")
        target = labels[last.operands[0]]
    if last.guard is None:
        return {"target": target}, None
    predicate = operands.value(("!" if last.negated else "") + last.guard, "pred")
    return {"target": target, "other": following, "text": last.text}, predicate


def _grain(pieces: list[list[Instruction]]) -> int:
    sizes = [4]
    for i in (i for piece in pieces for i in piece):
        if i.parts[0] in ("ld", "st") and i.parts[1] != "param" and i.parts[-1] in TYPES:
            sizes.append(size_of(i.parts[-1]))
        elif i.parts[0] in ("ldmatrix", "stmatrix"):
            sizes.append(2)
    return min(sizes)
