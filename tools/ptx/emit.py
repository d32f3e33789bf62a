"""Lines of Python that execute one instruction for all threads of a mask."""

from __future__ import annotations

import re

from tools.ptx.errors import UnsupportedError
from tools.ptx.expressions import comparison, expression
from tools.ptx.operands import Operands
from tools.ptx.parser import Instruction
from tools.ptx.scalars import TYPES, bits_of, size_of

# They order memory or help caches; a barrier that orders threads ends a basic block.
_NO_EFFECT = ("fence", "membar", "griddepcontrol", "nanosleep", "prefetch", "prefetchu", "applypriority", "discard")
SPACES = ("global", "shared", "param")


def lines_of(i: Instruction, operands: Operands) -> list[str]:
    """The lines of an instruction other than a branch or a block's barrier.

    Raises:
      UnsupportedError: the interpreter does not know it.
    """
    if i.parts[0] in _NO_EFFECT:
        return []
    if i.guard is None:
        return _unguarded(i, operands, "m")
    guard = operands.value(("!" if i.negated else "") + i.guard, "pred")
    return [f"q = t.both(m, {guard})", *_unguarded(i, operands, "q")]


def _unguarded(i: Instruction, operands: Operands, mask: str) -> list[str]:
    root = i.parts[0]
    if i.opcode.startswith(("bar.warp.sync", "barrier.warp.sync")):
        return [f"t.sync_warp({mask})"]
    if root in _MEMORY:
        return _MEMORY[root](i, operands, mask)
    if root in _WARP:
        return _WARP[root](i, operands, mask)
    if root == "setp":
        text = comparison(i, operands.value)
        return _assign_all(i.operands[0], [text, f"~{text}"], "pred", operands, mask)
    if root == "mov" and i.operands[0].startswith("{"):
        return _unpack(i, operands, mask)
    text, kind = expression(i, operands.value)
    return operands.assign(i.operands[0], text, kind, mask)


def _vector(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{} ").split(",")]


def _assign_all(targets: str, texts: list[str], kind: str, operands: Operands, mask: str) -> list[str]:
    """Assigns to targets such as "%p1|%p2"; texts without a target are dropped."""
    pairs = zip(targets.split("|"), texts, strict=False)
    return [line for target, text in pairs for line in operands.assign(target.strip(), text, kind, mask)]


def _unpack(i: Instruction, operands: Operands, mask: str) -> list[str]:
    """`mov {a, b}, c`: a gets the low bits."""
    names, kind = _vector(i.operands[0]), i.parts[-1]
    bits = 8 * size_of(kind) // len(names)
    lines = [f"v = {operands.value(i.operands[1], bits_of(kind))}"]
    for number, name in enumerate(names):
        text = f"(v >> {bits_of(kind)}({bits * number})).astype(b{bits})"
        lines += operands.assign(name, text, f"b{bits}", mask)
    return lines


def _space(i: Instruction) -> str:
    for part in i.parts:
        if part.partition("::")[0] in SPACES:
            return part.partition("::")[0]
    raise UnsupportedError(f"the PTX interpreter needs to know the memory that `{i.text}` accesses")


def _load(i: Instruction, operands: Operands, mask: str) -> list[str]:
    space, kind, names = _space(i), i.parts[-1], _vector(i.operands[0])
    if kind not in TYPES:
        raise UnsupportedError(f"the PTX interpreter does not know `{i.text}`")
    size = size_of(kind)
    if space == "param":
        match = re.fullmatch(r"\[\s*([\w$]+)\s*(?:\+\s*0)?\s*\]", i.operands[1])
        if match is None:
            raise UnsupportedError(f"the PTX interpreter knows pointers as parameters only, found `{i.text}`")
        return operands.assign(names[0], f"t.parameter({match.group(1)!r}, {size})", bits_of(kind), mask)
    address = operands.address(i.operands[1])
    lines = [f"v = t.load({space!r}, {address}, {size}, {len(names)}, {mask}, {i.text!r})", "t.pass_unsplit(m)"]
    for number, name in enumerate(names):
        view = "" if kind == bits_of(kind) else f".view({kind})"
        lines += operands.assign(name, f"v[{number}]{view}", kind, mask)
    return lines


def _store(i: Instruction, operands: Operands, mask: str) -> list[str]:
    space, size = _space(i), size_of(i.parts[-1])
    values = ", ".join(operands.value(name, f"b{8 * size}") for name in _vector(i.operands[1]))
    return [f"t.store({space!r}, {operands.address(i.operands[0])}, [{values}], {size}, {mask}, {i.text!r})"]


def _store_matrices(i: Instruction, operands: Operands, mask: str) -> list[str]:
    values = ", ".join(operands.value(name, "b32") for name in _vector(i.operands[1]))
    address = operands.address(i.operands[0])
    return [f"warp.store_matrices(t, {address}, [{values}], {'trans' in i.parts}, {mask}, {i.text!r})"]


def _load_matrices(i: Instruction, operands: Operands, mask: str) -> list[str]:
    names, address = _vector(i.operands[0]), operands.address(i.operands[1])
    lines = [f"v = warp.load_matrices(t, {address}, {len(names)}, {'trans' in i.parts}, {mask}, {i.text!r})"]
    for number, name in enumerate(names):
        lines += operands.assign(name, f"v[{number}]", "b32", mask)
    return lines


def _shuffle(i: Instruction, operands: Operands, mask: str) -> list[str]:
    value, by, limits, members = (operands.value(operand, "b32") for operand in i.operands[1:5])
    lines = [f"v, s = warp.shuffle(t, {i.parts[2]!r}, {value}, {by}, {limits}, {members}, {mask}, {i.text!r})"]
    target, _, exists = i.operands[0].partition("|")
    lines += operands.assign(target, "v", "b32", mask)
    return lines + (operands.assign(exists, "s", "pred", mask) if exists else [])


def _vote(i: Instruction, operands: Operands, mask: str) -> list[str]:
    predicate, members = operands.value(i.operands[1], "pred"), operands.value(i.operands[2], "b32")
    text = f"warp.vote(t, {i.parts[2]!r}, {predicate}, {members}, {mask}, {i.text!r})"
    return operands.assign(i.operands[0], text, i.parts[-1], mask)


def _reduce(i: Instruction, operands: Operands, mask: str) -> list[str]:
    value, members = operands.value(i.operands[1], i.parts[-1]), operands.value(i.operands[2], "b32")
    text = f"warp.reduce(t, {i.parts[2]!r}, {value}, {members}, {mask}, {i.text!r})"
    return operands.assign(i.operands[0], text, i.parts[-1], mask)


def _elect(i: Instruction, operands: Operands, mask: str) -> list[str]:
    lines = [f"v, s = warp.elect(t, {operands.value(i.operands[1], 'b32')})"]
    leader, _, chosen = i.operands[0].partition("|")
    return lines + operands.assign(leader, "v", "b32", mask) + operands.assign(chosen, "s", "pred", mask)


def _multiply(i: Instruction, operands: Operands, mask: str) -> list[str]:
    """`mma.sync.aligned.SHAPE.row.col.f32.KIND.KIND.f32`."""
    *_, rows, columns, result, kind, other, start = i.parts
    if (rows, columns, result, start) != ("row", "col", "f32", "f32") or kind != other or "m16n8" not in i.parts[3]:
        raise UnsupportedError(f"the PTX interpreter does not know `{i.text}`")
    a, b = (", ".join(operands.value(name, "b32") for name in _vector(operand)) for operand in i.operands[1:3])
    c = ", ".join(operands.value(name, "f32") for name in _vector(i.operands[3]))
    lines = [f"v = matrix.multiply(t, {kind!r}, [{a}], [{b}], [{c}], {mask}, {i.text!r})"]
    for number, name in enumerate(_vector(i.operands[0])):
        lines += operands.assign(name, f"v[{number}]", "f32", mask)
    return lines


_MEMORY = {"ld": _load, "st": _store, "ldmatrix": _load_matrices, "stmatrix": _store_matrices}
_WARP = {"shfl": _shuffle, "vote": _vote, "redux": _reduce, "elect": _elect, "mma": _multiply}
