"""Operands of a kernel's instructions as Python text: registers, constants, special registers and addresses.

In the generated code `t` is the machine, `r` the list of registers and `k` that of constants. A register is an array of
unsigned integers, one a thread; one that is the same in all threads may have one element.
"""

from __future__ import annotations

import re

import numpy as np

from tools.ptx.errors import PtxError
from tools.ptx.parser import Entry
from tools.ptx.scalars import TYPES, bits_of, is_signed, literal, size_of
from tools.ptx.warp import WARP

_SPECIAL = re.compile(r"%(?:n?tid|n?ctaid)\.[xyz]|%laneid|%warpid")


class Operands:
    """Numbers the registers and constants of a kernel as they are used.

    Attributes:
      starts: the value of each register before anything is written to it: NaN, if it is read as a float.
      constants: the constants.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.starts: list[np.ndarray] = []
        self.constants: list[np.ndarray] = []
        self._registers: dict[str, int] = {}
        self._numbers: dict[tuple[int, str], int] = {}

    def value(self, operand: str, kind: str) -> str:
        """An operand as an array of type `kind`.

        Raises:
          PtxError: it is none that the kernel declares.
        """
        if operand.startswith("!"):
            return f"~{self.value(operand[1:], kind)}"
        bits = self._entry.shared.get(operand, literal(operand))
        if bits is not None or operand == "WARP_SZ":
            return self._constant(WARP if bits is None else bits, kind)
        if _SPECIAL.fullmatch(operand):
            return f"t.special[{operand!r}].astype({kind})"
        declared = self._type_of(operand)
        text = f"r[{self._register(operand)}]"
        if kind == "pred":
            return text
        if size_of(declared) != size_of(kind):  # the low bits of a wider register
            text = f"{text}.astype({bits_of(kind)})"
        return text if TYPES[kind] is TYPES[bits_of(kind)] else f"{text}.view({kind})"

    def address(self, operand: str) -> str:
        """The address in brackets, unsigned 64 bits."""
        match = re.fullmatch(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if match is None:
            raise PtxError(f"{self._entry.name}: cannot read the address {operand}")
        text, offset = self.value(match.group(1), "b64"), int(match.group(2) or "0", 0)
        return f"{text} + {self._constant(offset, 'b64')}" if offset else text

    def assign(self, target: str, text: str, kind: str, mask: str) -> list[str]:
        """The line `target = text` for the threads of a mask; `text` is an array of type `kind`."""
        if target == "_":
            return []
        number = self._register(target)
        if kind != "pred":
            declared, bits = self._type_of(target), bits_of(kind)
            text = f"({text})"
            if size_of(declared) > size_of(kind):
                wide = f"{kind[0]}{8 * size_of(declared)}" if is_signed(kind) else bits_of(declared)
                text = f"{text if is_signed(kind) else f'{text}.view({bits})'}.astype({wide})"
            if is_signed(kind) or kind[0] in "fb":
                text = f"{text}.view({bits_of(declared)})"
        return [f"r[{number}] = put({mask}, {text}, r[{number}])"]

    def _type_of(self, register: str) -> str:
        kind = self._entry.type_of(register)
        if kind is None:
            raise PtxError(f"{self._entry.name}: {register} is not declared")
        return kind

    def _register(self, name: str) -> int:
        if name not in self._registers:
            stored = TYPES[bits_of(self._type_of(name))]
            self._registers[name] = len(self.starts)
            self.starts.append(np.zeros(1, bool) if stored is np.bool_ else np.array([-1]).astype(stored))
        return self._registers[name]

    def _constant(self, bits: int, kind: str) -> str:
        if (bits, kind) not in self._numbers:
            self._numbers[bits, kind] = len(self.constants)
            if kind == "pred":
                self.constants.append(np.array([bits != 0]))
            else:
                kept = bits & (1 << 8 * size_of(kind)) - 1
                self.constants.append(np.array([kept], TYPES[bits_of(kind)]).view(TYPES[kind]))
        return f"k[{self._numbers[bits, kind]}]"
