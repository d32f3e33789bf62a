"""Reads the text of one PTX kernel into statements. Grammar: PTX ISA, section "Syntax"."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

from tools.ptx.errors import PtxError

_SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.b8\s+([\w$]+)\s*\[(\d*)\]")
_STATEMENT = re.compile(r"(?:@(!?)([%\w$]+)\s+)?([\w.:]+)\s*(.*)", re.DOTALL)
_LABEL = re.compile(r"([$\w]+):(?!:)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      guard: name of the predicate register that must be true, or None.
      negated: the predicate must be false.
      opcode: with its modifiers, such as "ld.global.v2.b32".
      operands: as written; a vector keeps its braces, an address its brackets.
      text: the statement, for messages.
    """

    guard: str | None
    negated: bool
    opcode: str
    operands: tuple[str, ...]
    text: str

    @property
    def parts(self) -> list[str]:
        return self.opcode.split(".")


@dataclasses.dataclass(frozen=True)
class Label:
    name: str


@dataclasses.dataclass
class Entry:
    """A kernel.

    Attributes:
      name: its full name.
      parameters: names, in order.
      threads: of a block, if the text states them.
      registers: type by name or, for "%r<33>", by prefix.
      shared: offset of each array in shared memory.
      shared_bytes: size of these arrays; the launch may add more.
      statements: instructions and labels, in order. Registers of inner scopes have names of their own.
    """

    name: str
    parameters: list[str]
    threads: tuple[int, int, int] | None
    registers: dict[str, str] = dataclasses.field(default_factory=dict)
    shared: dict[str, int] = dataclasses.field(default_factory=dict)
    shared_bytes: int = 0
    statements: list[Instruction | Label] = dataclasses.field(default_factory=list)

    def type_of(self, register: str) -> str | None:
        """Type of a register; None if it was not declared."""
        return self.registers.get(register) or self.registers.get(re.sub(r"\d+$", "", register) + "<>")


def parse(ptx: str, name: str) -> Entry:
    """Reads the kernel whose name begins with `name`.

    Raises:
      PtxError: there is no such kernel.
    """
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", ptx, flags=re.DOTALL)
    found = re.search(rf"\.entry\s+({re.escape(name)}[\w$]*)", text)
    if not found:
        raise PtxError(f"the PTX has no kernel {name!r}; it has {', '.join(entries(ptx)) or 'none'}")
    head, _, body = text[found.end() :].partition("{")
    parameters = re.findall(r"\.param\s+[^,)]*?([\w$]+)\s*(?:\[\d+\])?\s*[,)]", head)
    threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", head)
    x, y, z = (int(size or 1) for size in threads.groups()) if threads else (1, 1, 1)
    entry = Entry(found.group(1), parameters, (x, y, z) if threads else None)
    for array in _SHARED.finditer(text[: found.start()]):
        _place_shared(entry, array)
    for statement in _statements(re.sub(r"(?m)^\s*\.(?:loc|file)\b[^\n]*$", "", body), entry):
        entry.statements.append(statement)
    return entry


def entries(ptx: str) -> list[str]:
    """Names of all kernels in a text."""
    return re.findall(r"\.entry\s+([\w$]+)", ptx)


def _place_shared(entry: Entry, array: re.Match[str]) -> None:
    align, name, size = array.groups()
    start = math.ceil(entry.shared_bytes / int(align or 1)) * int(align or 1)
    entry.shared[name] = start
    entry.shared_bytes = start + int(size or 0)


def _statements(body: str, entry: Entry) -> Iterator[Instruction | Label]:
    """Statements up to the brace that closes the kernel."""
    scopes: list[dict[str, str]] = [{}]
    count, at = 0, 0
    while True:
        at += len(body[at:]) - len(body[at:].lstrip()) if body[at : at + 1].isspace() else 0
        if at >= len(body):
            raise PtxError(f"{entry.name}: the text ends inside the kernel; is the file complete?")
        if body[at] in "{}":
            if body[at] == "{":
                count += 1
                scopes.append({})
            elif len(scopes) == 1:
                return
            else:
                scopes.pop()
            at += 1
            continue
        if label := _LABEL.match(body, at):
            yield Label(label.group(1))
            at = label.end()
            continue
        end = body.find(";", at)
        if end < 0:
            raise PtxError(f"{entry.name}: the text ends inside a statement; is the file complete?")
        statement, at = " ".join(body[at:end].split()), end + 1
        if statement.startswith(".reg"):
            _declare(statement, entry, scopes, count)
        elif array := _SHARED.match(statement):
            _place_shared(entry, array)
        elif statement and not statement.startswith("."):  # .pragma and the like change no result
            yield _instruction(_renamed(statement, scopes))


def _declare(statement: str, entry: Entry, scopes: list[dict[str, str]], scope: int) -> None:
    """`.reg .b32 %r<33>` declares %r0 to %r32; names of an inner scope get its number."""
    _, kind, names = statement.split(None, 2)
    for name in (name.strip() for name in names.split(",")):
        if "<" in name:
            entry.registers[name.partition("<")[0] + "<>"] = kind[1:]
            continue
        unique = name if len(scopes) == 1 else f"{name}@{scope}"
        scopes[-1][name] = unique
        entry.registers[unique] = kind[1:]


def _renamed(statement: str, scopes: list[dict[str, str]]) -> str:
    names = {old: new for scope in scopes for old, new in scope.items() if old != new}
    for old, new in names.items():
        statement = re.sub(rf"(?<![\w%$@]){re.escape(old)}(?![\w$@])", new, statement)
    return statement


def _instruction(statement: str) -> Instruction:
    match = _STATEMENT.fullmatch(statement)
    if match is None:
        raise PtxError(f"cannot read the statement `{statement}`")
    negated, guard, opcode, operands = match.groups()
    return Instruction(guard, bool(negated), opcode, tuple(_split(operands)), statement)


def _split(operands: str) -> Iterator[str]:
    """Splits at commas outside of braces and brackets."""
    depth, start = 0, 0
    for at, character in enumerate(operands):
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            yield operands[start:at].strip()
            start = at + 1
    if operands[start:].strip():
        yield operands[start:].strip()
