"""Kernels as Python functions over typed values; what they emit is LLVM IR.

A `Code` is one machine function under construction. Its values are 64-bit integers, float32 numbers, vectors of
`lanes` float32, truth values and pointers; Python's operators on them emit instructions. Pointers count in float32
elements. Python's own loops unroll; `Code.loop` is a loop of the machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import llvmlite.ir as ir

from m3sr_kernels.native.values import BOOL, BYTE, FLOAT, INT, INT32, POINTER, Cell, Operand, Raw, Value

KINDS = {"p": POINTER, "i": INT, "f": FLOAT}


class Code:
    """One machine function under construction."""

    def __init__(self, function: ir.Function, owner: Module) -> None:
        self.function, self.owner, self.lanes, self.module = function, owner, owner.lanes, owner.ir
        self.vector = ir.VectorType(FLOAT, owner.lanes)
        self.int_vector = ir.VectorType(INT32, owner.lanes)
        self.builder: Any = ir.IRBuilder(function.append_basic_block("entry"))
        self.arguments = [Value(self, argument) for argument in function.args]

    # Constants and conversions.
    def int(self, value: int) -> Value:
        """A 64-bit integer."""
        return Value(self, ir.Constant(INT, value))

    def float(self, value: float) -> Value:
        """A float32 number."""
        return Value(self, ir.Constant(FLOAT, value))

    def vec(self, value: float) -> Value:
        """A vector with one number in every lane."""
        return Value(self, ir.Constant(self.vector, [float(value)] * self.lanes))

    def zero(self) -> Value:
        """The zero vector."""
        return self.vec(0.0)

    def splat(self, scalar: Value) -> Value:
        """The vector with a float32 in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar.ir, INT32(0))
        return Value(
            self, self.builder.shuffle_vector(first, undefined, ir.Constant(self.int_vector, [0] * self.lanes))
        )

    def unify(self, left: Value, other: Operand) -> tuple[Raw, Raw]:
        """Two operands of one type."""
        if not isinstance(other, Value):
            if isinstance(left.ir.type, ir.VectorType):
                other = self.vec(other)
            elif isinstance(left.ir.type, ir.FloatType):
                other = self.float(other)
            else:
                other = self.int(int(other))
        if left.ir.type != other.ir.type:
            if isinstance(left.ir.type, ir.VectorType) and isinstance(other.ir.type, ir.FloatType):
                other = self.splat(other)
            elif isinstance(other.ir.type, ir.VectorType) and isinstance(left.ir.type, ir.FloatType):
                left = self.splat(left)
            else:
                raise TypeError(f"cannot combine {left.ir.type} with {other.ir.type}")
        return left.ir, other.ir

    # Memory.
    def load(self, pointer: Value, offset: Operand = 0) -> Value:
        """The vector at `pointer + offset`."""
        value: Any = self.builder.load((pointer + offset).ir, typ=self.vector)
        value.align = 4
        return Value(self, value)

    def store(self, value: Value, pointer: Value, offset: Operand = 0) -> None:
        """Writes a vector or a float32 to `pointer + offset`."""
        self.builder.store(value.ir, (pointer + offset).ir).align = 4

    def scalar(self, pointer: Value, offset: Operand = 0) -> Value:
        """The float32 at `pointer + offset`."""
        value: Any = self.builder.load((pointer + offset).ir, typ=FLOAT)
        value.align = 4
        return Value(self, value)

    def broadcast(self, pointer: Value, offset: Operand = 0) -> Value:
        """The float32 at `pointer + offset` in every lane."""
        return self.splat(self.scalar(pointer, offset))

    def accumulate(self, value: Value, pointer: Value, offset: Operand = 0) -> None:
        """Adds a vector to memory."""
        self.store(self.load(pointer, offset) + value, pointer, offset)

    def lanes_below(self, count: Value) -> Value:
        """For each lane, whether its number is below `count`."""
        numbers = ir.Constant(self.int_vector, list(range(self.lanes)))
        narrow = self.builder.trunc(count.ir, INT32)
        one = self.builder.insert_element(ir.Constant(self.int_vector, ir.Undefined), narrow, INT32(0))
        limit = self.builder.shuffle_vector(one, one, ir.Constant(self.int_vector, [0] * self.lanes))
        return Value(self, self.builder.icmp_signed("<", numbers, limit))

    def constant_mask(self, lanes: Sequence[bool]) -> Value:
        """One truth value a lane."""
        return Value(self, ir.Constant(ir.VectorType(BOOL, self.lanes), [int(lane) for lane in lanes]))

    def load_masked(self, mask: Value, pointer: Value, offset: Operand = 0) -> Value:
        """The vector at `pointer + offset`, zero and not read where `mask` is false."""
        name = f"llvm.masked.load.v{self.lanes}f32.p0"
        kinds = [POINTER, INT32, ir.VectorType(BOOL, self.lanes), self.vector]
        read = self._declare(name, self.vector, kinds)
        return Value(self, self.builder.call(read, [(pointer + offset).ir, INT32(4), mask.ir, self.zero().ir]))

    def store_masked(self, mask: Value, value: Value, pointer: Value, offset: Operand = 0) -> None:
        """Writes the lanes of a vector where `mask` is true."""
        name = f"llvm.masked.store.v{self.lanes}f32.p0"
        kinds = [self.vector, POINTER, INT32, ir.VectorType(BOOL, self.lanes)]
        write = self._declare(name, ir.VoidType(), kinds)
        self.builder.call(write, [value.ir, (pointer + offset).ir, INT32(4), mask.ir])

    def prefetch(self, pointer: Value, offset: Operand = 0) -> None:
        """Asks for the cache line at `pointer + offset`; never faults."""
        fetch = self._declare("llvm.prefetch.p0", ir.VoidType(), [POINTER, INT32, INT32, INT32])
        self.builder.call(fetch, [(pointer + offset).ir, INT32(0), INT32(3), INT32(1)])

    def fill(self, pointer: Value, count: Operand, value: float = 0.0) -> None:
        """Writes one number `count` times, in whole vectors: the buffer must end on one."""
        with self.loop(count, step=self.lanes) as i:
            self.store(self.vec(value), pointer, i)

    def load_int(self, pointer: Value, index: Operand = 0) -> Value:
        """The 64-bit integer number `index` of an array of them."""
        value: Any = self.builder.load((pointer + self._integer(index) * 2).ir, typ=INT)
        value.align = 4
        return Value(self, value)

    def store_int(self, value: Value, pointer: Value, index: Operand = 0) -> None:
        """Writes the 64-bit integer number `index` of an array of them."""
        self.builder.store(value.ir, (pointer + self._integer(index) * 2).ir).align = 4

    # Arithmetic.
    def fma(self, x: Operand, y: Operand, z: Value) -> Value:
        """x·y + z: fused where the CPU can."""
        x, y = (self._like(z, operand) for operand in (x, y))
        suffix = f"v{self.lanes}f32" if isinstance(z.ir.type, ir.VectorType) else "f32"
        fused = self._declare(f"llvm.fmuladd.{suffix}", z.ir.type, [z.ir.type] * 3)
        return Value(self, self.builder.call(fused, [x.ir, y.ir, z.ir]))

    def sqrt(self, x: Value) -> Value:
        """The square root of a vector or a float32, correctly rounded."""
        suffix = f"v{self.lanes}f32" if isinstance(x.ir.type, ir.VectorType) else "f32"
        root = self._declare(f"llvm.sqrt.{suffix}", x.ir.type, [x.ir.type])
        return Value(self, self.builder.call(root, [x.ir]))

    def to_float(self, x: Value) -> Value:
        """The float32 nearest to an integer."""
        return Value(self, self.builder.sitofp(x.ir, FLOAT))

    def _like(self, model: Value, operand: Operand) -> Value:
        return Value(self, self.unify(model, operand)[1])

    def select(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """Yes where the condition holds, lane by lane, else no."""
        model = yes if isinstance(yes, Value) else no
        assert isinstance(model, Value)
        first, second = self._like(model, yes), self._like(model, no)
        return Value(self, self.builder.select(condition.ir, first.ir, second.ir))

    def minimum(self, x: Value, y: Operand) -> Value:
        """The smaller of two integers, or of two floats: x where it is NaN."""
        return self.select(x > y, y, x)

    def maximum(self, x: Value, y: Operand) -> Value:
        """The larger of two integers, or of two floats: x where it is NaN."""
        return self.select(x < y, y, x)

    def as_bits(self, x: Value) -> Raw:
        """The bits of a vector's lanes as 32-bit integers."""
        return self.builder.bitcast(x.ir, self.int_vector)

    def from_bits(self, bits: Raw) -> Value:
        """The inverse of `as_bits`."""
        return Value(self, self.builder.bitcast(bits, self.vector))

    def shuffle(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """Picks lanes of x (0 to lanes − 1) and y (from `lanes` on)."""
        return Value(self, self.builder.shuffle_vector(x.ir, y.ir, ir.Constant(self.int_vector, list(lanes))))

    def sum_lanes(self, x: Value) -> Value:
        """The sum of a vector's lanes, as a float32: a fixed tree."""
        width = self.lanes
        while width > 1:
            width //= 2
            x = x + self.shuffle(x, x, [(lane + width) % self.lanes for lane in range(self.lanes)])
        return Value(self, self.builder.extract_element(x.ir, INT32(0)))

    # Control.
    def cell(self, start: Operand) -> Cell:
        """A variable; a Python number starts an integer."""
        return Cell(self, start if isinstance(start, Value) else self.int(int(start)))

    @contextlib.contextmanager
    def loop(self, stop: Operand, *, start: Operand = 0, step: int = 1, down: bool = False) -> Iterator[Value]:
        """Runs its body with start, start + step, … below stop; `down` runs the same numbers last to first (step 1)."""
        first, last = self._integer(start), self._integer(stop)
        head, body, end = (self.function.append_basic_block(name) for name in ("loop", "body", "end"))
        before = self.builder.block
        self.builder.branch(head)
        self.builder.position_at_end(head)
        count = self.builder.phi(INT)
        count.add_incoming(first.ir, before)
        self.builder.cbranch(self.builder.icmp_signed("<", count, last.ir), body, end)
        self.builder.position_at_end(body)
        counter = Value(self, count)
        yield first + last - 1 - counter if down else counter
        count.add_incoming(self.builder.add(count, INT(step)), self.builder.block)
        self.builder.branch(head)
        self.builder.position_at_end(end)

    @contextlib.contextmanager
    def vectors(self, count: Value) -> Iterator[tuple[Value, Value]]:
        """Runs its body for the vectors of `count` ≥ lanes numbers: gives the first number, and how many were seen.

        The last vector begins earlier than a multiple of lanes where it would end behind the numbers.
        """
        with self.loop(count, step=self.lanes) as number:
            first = self.minimum(number, count - self.lanes)
            yield first, number - first

    def _integer(self, value: Operand) -> Value:
        return value if isinstance(value, Value) else self.int(int(value))

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Runs its body if the condition holds."""
        with self.builder.if_then(condition.ir):
            yield

    @contextlib.contextmanager
    def repeat_while(self, condition: Callable[[], Value]) -> Iterator[None]:
        """Runs its body as long as the condition holds, asked before each round."""
        head, body, end = (self.function.append_basic_block(name) for name in ("while", "body", "end"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(condition().ir, body, end)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(head)
        self.builder.position_at_end(end)

    @contextlib.contextmanager
    def either(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        """Gives two contexts: the body of the first runs if the condition holds, else that of the second."""
        with self.builder.if_else(condition.ir) as branches:
            yield branches

    def call(self, function: ir.Function, *arguments: Operand) -> Value:
        """Calls another function of the module."""
        values = [self._integer(argument).ir for argument in arguments]
        return Value(self, self.builder.call(function, values))

    def call_pointer(self, function: Value, result: ir.Type, arguments: Sequence[Value]) -> Raw:
        """Calls a function by its address."""
        kind = ir.FunctionType(result, [argument.ir.type for argument in arguments])
        return self.builder.call(_Untyped(function.ir, kind), [argument.ir for argument in arguments])

    def external(self, name: str, result: ir.Type, kinds: Sequence[ir.Type]) -> ir.Function:
        """A function that the process offers under this name."""
        return self._declare(name, result, kinds)

    def text(self, message: str) -> Value:
        """A pointer to a constant text, ended by a zero byte."""
        data = bytearray(message.encode()) + b"\0"
        name = f"text{len(self.module.globals)}"
        variable: Any = ir.GlobalVariable(self.module, ir.ArrayType(BYTE, len(data)), name)
        variable.global_constant, variable.linkage = True, "internal"
        variable.initializer = ir.Constant(variable.value_type, data)
        return self.untyped(variable)

    def untyped(self, pointer: Any) -> Value:
        """A function, a variable or a slot of the stack, as a pointer."""
        return Value(self, _Untyped(pointer))

    def true(self) -> Value:
        """The truth value."""
        return Value(self, BOOL(1))

    def finish(self, result: Operand | None = None) -> None:
        """Returns from the function."""
        if result is None:
            self.builder.ret_void()
        else:
            self.builder.ret(self._integer(result).ir)

    def _declare(self, name: str, result: ir.Type, kinds: Sequence[ir.Type]) -> ir.Function:
        existing = self.module.globals.get(name)
        return existing if existing is not None else ir.Function(self.module, ir.FunctionType(result, kinds), name)


class _Untyped(ir.Value):
    """A pointer as LLVM knows it, where llvmlite would still track what it points to; a function, if it has a kind."""

    def __init__(self, pointer: Raw, kind: ir.FunctionType | None = None) -> None:
        self.type, self.function_type, self._pointer = POINTER, kind, pointer

    def get_reference(self) -> str:
        """Its name in the IR."""
        return self._pointer.get_reference()


class Module:
    """Machine functions that are compiled together, for vectors of `lanes`."""

    def __init__(self, name: str, triple: str, lanes: int, tile: tuple[int, int]) -> None:
        self.ir = ir.Module(name)
        self.ir.triple = triple
        self.lanes, self.tile = lanes, tile
        self._made: dict[Any, ir.Function] = {}

    def function(self, name: str, kinds: str, body: Callable[..., None], *, result: str = "") -> ir.Function:
        """Makes an internal function; `kinds` has a letter an argument: p pointer, i integer, f float32."""
        made = self._function(name, kinds, result)
        made.linkage = "internal"
        code = Code(made, self)
        body(code, *code.arguments)
        if not code.builder.block.is_terminated:
            code.finish()
        return made

    def once(self, key: Any, make: Callable[[], ir.Function]) -> ir.Function:
        """The function that `make` made for this key when it was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def exported(self, name: str, kinds: str, result: str, body: Callable[..., None]) -> None:
        """Makes a function that can be called from outside."""
        code = Code(self._function(name, kinds, result), self)
        body(code, *code.arguments)

    def _function(self, name: str, kinds: str, result: str) -> ir.Function:
        returned = KINDS[result] if result else ir.VoidType()
        taken = [KINDS[kind] for kind in kinds]
        unique = self.ir.get_unique_name(name) if name in self.ir.globals else name
        function = ir.Function(self.ir, ir.FunctionType(returned, taken), unique)
        function.attributes.add("nounwind")
        return function
