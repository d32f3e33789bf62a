"""Typed values of kernels under construction, and variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

import llvmlite.ir as ir

if TYPE_CHECKING:
    from m3sr_kernels.native.assembler import Code

FLOAT, INT, BOOL, BYTE, INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(1), ir.IntType(8), ir.IntType(32)
POINTER = ir.PointerType()
Operand = Union["Value", int, float]
Raw = Any  # a value of llvmlite, whose classes have no types


class Value:
    """A value of a `Code`; arithmetic with Python numbers and with scalars broadcast to vectors."""

    __array_priority__ = 1000

    def __init__(self, code: Code, value: Raw) -> None:
        self.code, self.ir = code, value

    def _binary(self, other: Operand, floats: str, ints: str, *, swap: bool = False) -> Value:
        left, right = self.code.unify(self, other)
        if swap:
            left, right = right, left
        builder = self.code.builder
        if isinstance(left.type, ir.PointerType):
            raise TypeError("pointers only add")
        method = ints if isinstance(left.type, ir.IntType) else floats
        return Value(self.code, getattr(builder, method)(left, right))

    def __add__(self, other: Operand) -> Value:
        if isinstance(self.ir.type, ir.PointerType):
            index = self.code.unify(Value(self.code, ir.Constant(INT, 0)), other)[1]
            return Value(self.code, self.code.builder.gep(self.ir, [index], source_etype=FLOAT))
        return self._binary(other, "fadd", "add")

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Value:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: Operand) -> Value:
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other: Operand) -> Value:
        return self._binary(other, "fmul", "mul")

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Value:
        return self._binary(other, "fdiv", "sdiv")

    def __rtruediv__(self, other: Operand) -> Value:
        return self._binary(other, "fdiv", "sdiv", swap=True)

    def __floordiv__(self, other: Operand) -> Value:
        return self._binary(other, "fdiv", "sdiv")

    def __mod__(self, other: Operand) -> Value:
        return self._binary(other, "frem", "srem")

    def _compare(self, op: str, other: Operand) -> Value:
        left, right = self.code.unify(self, other)
        builder = self.code.builder
        if isinstance(left.type, ir.IntType):
            return Value(self.code, builder.icmp_signed(op, left, right))
        if isinstance(left.type, ir.PointerType):
            return Value(self.code, builder.icmp_unsigned(op, left, right))
        return Value(self.code, builder.fcmp_ordered(op, left, right))

    def __lt__(self, other: Operand) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Operand) -> Value:
        """Whether both are equal (`==` is left to Python)."""
        return self._compare("==", other)

    def differs(self, other: Operand) -> Value:
        """Whether two integers or pointers differ."""
        left, right = self.code.unify(self, other)
        return Value(self.code, self.code.builder.icmp_signed("!=", left, right))

    def __and__(self, other: Value) -> Value:
        return Value(self.code, self.code.builder.and_(self.ir, other.ir))

    def __or__(self, other: Value) -> Value:
        return Value(self.code, self.code.builder.or_(self.ir, other.ir))

    def __invert__(self) -> Value:
        return Value(self.code, self.code.builder.not_(self.ir))


class Cell:
    """A variable: LLVM keeps it in a register."""

    def __init__(self, code: Code, start: Value) -> None:
        self._code = code
        with code.builder.goto_entry_block():
            self._slot = code.builder.alloca(start.ir.type)
        self.set(start)

    def get(self) -> Value:
        """The value now."""
        return Value(self._code, self._code.builder.load(self._slot, typ=self._slot.allocated_type))

    def set(self, value: Value) -> None:
        """Assigns."""
        self._code.builder.store(value.ir, self._slot)

    def add(self, value: Operand) -> None:
        """Adds to the value."""
        self.set(self.get() + value)
