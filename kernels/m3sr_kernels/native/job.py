"""What a kernel is, and what it knows of a call: a job, which the threads of a call share.

A kernel's work is cut into numbered units, in phases: a unit starts when all units of earlier phases are done. Threads
take the next number until none is left, the calling thread too; so a call finishes even if no other thread ever comes,
and what a unit computes does not depend on who computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m3sr_kernels.native.assembler import BYTE, INT, INT32, POINTER, Code, Module, Value

# A job in 64-bit words. Its last words hold the buffers, then the sizes. The counters that all threads change have
# cache lines of their own.
NEXT, DONE, REFERENCES, FAILED, TOTAL, THREADS, SHARED, SHARED_RAW, PHASES, FREE = 0, 8, 16, 17, 18, 19, 20, 21, 22, 30


class Job:
    """What a kernel knows of a call: pointers to its buffers by name, sizes by letter, threads of the machine."""

    def __init__(self, code: Code, pointer: Value, signature: Signature) -> None:
        self._code, self._pointer, self._signature = code, pointer, signature

    def __getattr__(self, name: str) -> Value:
        """The size that a letter stands for."""
        return word(self._code, self._pointer, self._signature.place_of_size(name))

    def __getitem__(self, name: str) -> Value:
        """Where a buffer begins."""
        return pointer_word(self._code, self._pointer, self._signature.place_of_buffer(name))

    @property
    def lanes(self) -> int:
        """Of a vector."""
        return self._code.lanes

    @property
    def zero(self) -> Value:
        """The integer 0."""
        return self._code.int(0)

    @property
    def pointer(self) -> Value:
        """The job itself, to be passed to a function."""
        return self._pointer

    @property
    def threads(self) -> Value:
        """Threads of XLA's pool."""
        return word(self._code, self._pointer, THREADS)

    @property
    def shared(self) -> Value:
        """Memory of the call that all units see."""
        return pointer_word(self._code, self._pointer, SHARED)


class Signature:
    """Buffers of a kernel and their shapes.

    A shape is a text such as "B H W 4 R": a letter or word stands for any size that is the same everywhere, a
    number for itself.

    Attributes:
      arguments: shapes by name.
      results: the same.
      shapes: all of them, arguments first.
      sizes: letters and words, in the order of their words in a job.
    """

    def __init__(self, arguments: Mapping[str, str], results: Mapping[str, str]) -> None:
        self.arguments, self.results = dict(arguments), dict(results)
        self._buffers = [*arguments, *results]
        self.shapes = [*arguments.values(), *results.values()]
        axes = (axis for shape in self.shapes for axis in shape.split())
        self.sizes = list(dict.fromkeys(axis for axis in axes if not axis.isdigit()))

    def place_of_buffer(self, name: str) -> int:
        """Its word in a job."""
        return FREE + self._buffers.index(name)

    def place_of_size(self, name: str) -> int:
        """Its word in a job."""
        return FREE + len(self._buffers) + self.sizes.index(name)

    @property
    def words(self) -> int:
        """Of a job."""
        return FREE + len(self._buffers) + len(self.sizes)


class Kernel:
    """What `add_handler` makes an FFI handler of.

    Attributes:
      signature: its buffers.
      phase_names: of its phases, at most eight.
    """

    signature: Signature
    phase_names: Sequence[str]

    def constraints(self, job: Job) -> Sequence[Value]:
        """Further conditions on sizes, each of which must hold."""
        del job
        return []

    def shared(self, k: Code, job: Job) -> Value:
        """Float32 numbers of memory that all units see."""
        del job
        return k.int(0)

    def scratch(self, k: Code, job: Job) -> Value:
        """Float32 numbers of memory that each thread has for itself."""
        del job
        return k.int(0)

    def phases(self, k: Code, job: Job) -> Sequence[Value]:
        """Units of each phase."""
        raise NotImplementedError

    def run(self, module: Module, phase: int, k: Code, job: Job, unit: Value, scratch: Value) -> None:
        """Emits the work of one unit."""
        raise NotImplementedError


def at(k: Code, base: Value, offset: int) -> Any:
    return k.builder.gep(base.ir, [INT(offset)], source_etype=BYTE)


def pointer_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.load(at(k, base, offset), typ=POINTER))


def int_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.load(at(k, base, offset), typ=INT))


def int32_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.sext(k.builder.load(at(k, base, offset), typ=INT32), INT))


def put(k: Code, base: Value, offset: int, value: Value) -> None:
    k.builder.store(value.ir, at(k, base, offset))


def put_int32(k: Code, base: Value, offset: int, value: Value) -> None:
    k.builder.store(k.builder.trunc(value.ir, INT32), at(k, base, offset))


def word(k: Code, job: Value, word: int) -> Value:
    return int_at(k, job, 8 * word)


def pointer_word(k: Code, job: Value, word: int) -> Value:
    return pointer_at(k, job, 8 * word)


def set_word(k: Code, job: Value, word: int, value: Value) -> None:
    put(k, job, 8 * word, value)


def atomic_add(k: Code, job: Value, word: int, value: int) -> Value:
    return Value(k, k.builder.atomic_rmw("add", at(k, job, 8 * word), INT(value), "seq_cst"))


def atomic_load(k: Code, job: Value, word: int) -> Value:
    return Value(k, k.builder.load_atomic(at(k, job, 8 * word), "seq_cst", 8, typ=INT))
