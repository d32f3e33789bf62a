"""How XLA calls a kernel: the frame it passes, checks of every buffer, errors, and units of work on XLA's own threads.

Offsets are those of XLA's `xla/ffi/api/c_api.h`, whose text promises that the layout changes only with the major
version. A kernel's work is cut into numbered units, in phases: a unit starts when all units of earlier phases are done.
Threads take the next number until none is left, the calling thread too; so a call finishes even if no other thread ever
comes, and what a unit computes does not depend on who computes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.ir as ir

from m3sr_kernels.native.assembler import BYTE, INT, INT32, POINTER, Code, Module, Value

MAJOR, MINORS = 0, (1, 2, 3)  # versions of the interface whose layout this module knows
FLOAT32, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 11, 3, 8, 12

# Byte offsets. Of the call frame:
_EXTENSION, _API, _CONTEXT, _ARGUMENT_COUNT, _ARGUMENTS, _RESULT_COUNT, _RESULTS = 8, 16, 24, 56, 72, 96, 112
# of the table of functions that the runtime offers, and its size up to the last one used:
_API_MAJOR, _API_MINOR, _CREATE_ERROR, _SCHEDULE, _COUNT_THREADS, _API_SIZE = 32, 36, 48, 136, 144, 152
# of a buffer, and of the answer about a handler:
_TYPE, _DATA, _RANK, _DIMENSIONS = 16, 24, 32, 40
_META_MAJOR, _META_MINOR, _META_TRAITS, _META_STATE = 24, 28, 32, 40

# A job in 64-bit words: what threads share during a call. Its last words hold the buffers, then the sizes.
# The counters that all threads change have cache lines of their own.
_NEXT, _DONE, _REFERENCES, _FAILED, _TOTAL, _THREADS, _SHARED, _SHARED_RAW, _PHASES, _FREE = (
    0,
    8,
    16,
    17,
    18,
    19,
    20,
    21,
    22,
    30,
)
_ALIGNMENT = 64


class Job:
    """What a kernel knows of a call: pointers to its buffers by name, sizes by letter, threads of the machine."""

    def __init__(self, code: Code, pointer: Value, signature: Signature) -> None:
        self._code, self._pointer, self._signature = code, pointer, signature

    def __getattr__(self, name: str) -> Value:
        """The size that a letter stands for."""
        return _word(self._code, self._pointer, self._signature.place_of_size(name))

    def __getitem__(self, name: str) -> Value:
        """Where a buffer begins."""
        return _pointer_word(self._code, self._pointer, self._signature.place_of_buffer(name))

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
        return _word(self._code, self._pointer, _THREADS)

    @property
    def shared(self) -> Value:
        """Memory of the call that all units see."""
        return _pointer_word(self._code, self._pointer, _SHARED)


class Signature:
    """Buffers of a kernel and their shapes.

    A shape is a text such as "B H W 4 R": a letter or word stands for any size that is the same everywhere, a
    number for itself.
    """

    def __init__(self, arguments: Mapping[str, str], results: Mapping[str, str]) -> None:
        self.arguments, self.results = dict(arguments), dict(results)
        self._buffers = [*arguments, *results]
        shapes = [*arguments.values(), *results.values()]
        self._sizes = list(dict.fromkeys(axis for shape in shapes for axis in shape.split() if not axis.isdigit()))

    def buffers(self, k: Code, frame: Value) -> list[tuple[Value, str]]:
        """Every buffer of a call frame with its shape, arguments first."""
        found = []
        for place, shapes in ((_ARGUMENTS, self.arguments), (_RESULTS, self.results)):
            table = _pointer_at(k, frame, place)
            found += [(_pointer_at(k, table, 8 * number), shape) for number, shape in enumerate(shapes.values())]
        return found

    @property
    def sizes(self) -> list[str]:
        """Letters and words, in the order of their words in a job."""
        return self._sizes

    def first_use(self, axis: str) -> tuple[int, int]:
        """Number of the first buffer that has it, and where."""
        shapes = [*self.arguments.values(), *self.results.values()]
        return next((n, s.split().index(axis)) for n, s in enumerate(shapes) if axis in s.split())

    def place_of_buffer(self, name: str) -> int:
        """Its word in a job."""
        return _FREE + self._buffers.index(name)

    def place_of_size(self, name: str) -> int:
        """Its word in a job."""
        return _FREE + len(self._buffers) + self._sizes.index(name)

    @property
    def words(self) -> int:
        """Of a job."""
        return _FREE + len(self._buffers) + len(self._sizes)


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


def add_handler(module: Module, name: str, kernel: Kernel) -> None:
    """Adds the handler `name` of a kernel to a module."""
    work = _work_function(module, kernel)
    leave = module.function("leave", "p", _leave)

    def task(k: Code, job: Value) -> None:
        k.call(work, job)
        k.call(leave, job)

    task_function = module.function("task", "p", task)

    def handle(k: Code, frame: Value) -> None:
        with k.when(_pointer_at(k, frame, _EXTENSION).differs(_null(k))):
            _answer_about_handler(k, frame)
        _check_buffers(k, frame, kernel.signature)
        job = _new_job(k, frame, kernel)
        problem = _start_tasks(k, frame, job, task_function)
        k.call(work, job)
        _wait(k, job, _word(k, job, _TOTAL))
        _free(k, _pointer_word(k, job, _SHARED_RAW))
        failed = _word(k, job, _FAILED)
        k.call(leave, job)
        with k.when(failed.differs(0)):
            _fail(k, frame, RESOURCE_EXHAUSTED, f"{name}: no memory for a thread's working space")
        k.builder.ret(problem.ir)

    module.exported(name, "p", "p", handle)


def _work_function(module: Module, kernel: Kernel) -> ir.Function:
    """work(job) takes units until none is left."""
    names = kernel.phase_names
    signature = kernel.signature

    def make_phase(phase: int) -> ir.Function:
        def body(k: Code, job: Value, unit: Value, scratch: Value) -> None:
            kernel.run(module, phase, k, Job(k, job, signature), unit, scratch)

        return module.function(names[phase], "pip", body)

    phases = [make_phase(phase) for phase in range(len(names))]

    def run_unit(k: Code, job: Value, unit: Value, scratch: Value) -> None:
        start = k.int(0)
        for phase, function in enumerate(phases):
            end = _word(k, job, _PHASES + phase)
            with k.when((unit >= start) & (unit < end)):
                if phase:
                    _wait(k, job, start)
                k.call(function, job, unit - start, scratch)
            start = end

    unit_function = module.function("unit", "pip", run_unit)

    def body(k: Code, job: Value) -> None:
        unit = k.cell(_atomic_add(k, job, _NEXT, 1))
        with k.when(unit.get() < _word(k, job, _TOTAL)):
            raw = _allocate(k, kernel.scratch(k, Job(k, job, signature)))
            with k.when(raw.equals(_null(k))):
                _set_word(k, job, _FAILED, k.int(1))
            scratch = _aligned(k, raw)
            with k.repeat_while(lambda: unit.get() < _word(k, job, _TOTAL)):
                with k.when(_word(k, job, _FAILED).equals(0)):
                    k.call(unit_function, job, unit.get(), scratch)
                _atomic_add(k, job, _DONE, 1)
                unit.set(_atomic_add(k, job, _NEXT, 1))
            _free(k, raw)

    return module.function("work", "p", body)


def _leave(k: Code, job: Value) -> None:
    """The last thread that knows a job frees it; one that XLA starts late finds it still there."""
    with k.when(_atomic_add(k, job, _REFERENCES, -1).equals(1)):
        _free(k, job)


def _answer_about_handler(k: Code, frame: Value) -> None:
    """Tells XLA which version of the interface this handler speaks, or that the runtime's is unknown."""
    api, extension = _pointer_at(k, frame, _API), _pointer_at(k, frame, _EXTENSION)
    major, minor = _int32_at(k, api, _API_MAJOR), _int32_at(k, api, _API_MINOR)
    unknown = major.differs(MAJOR) | (minor < MINORS[0]) | (_int_at(k, api, 0) < _API_SIZE)
    with k.when(unknown):
        _fail(k, frame, UNIMPLEMENTED, "m3sr: XLA's FFI has a version that these kernels do not know")
    metadata = _pointer_at(k, extension, 24)
    _put_int32(k, metadata, _META_MAJOR, k.int(MAJOR))
    _put_int32(k, metadata, _META_MINOR, k.minimum(minor, MINORS[-1]))
    _put_int32(k, metadata, _META_TRAITS, k.int(0))
    _put(k, metadata, _META_STATE, k.int(0))
    k.builder.ret(_null(k).ir)


def _check_buffers(k: Code, frame: Value, signature: Signature) -> None:
    """Number, type, rank and sizes of all buffers, before anything is read."""
    right = _int_at(k, frame, _ARGUMENT_COUNT).equals(len(signature.arguments))
    right &= _int_at(k, frame, _RESULT_COUNT).equals(len(signature.results))
    with k.when(~right):
        _fail(k, frame, INVALID_ARGUMENT, "m3sr: a kernel was called with the wrong number of buffers")
    sizes: dict[str, Value] = {}
    for buffer, shape in signature.buffers(k, frame):
        axes = shape.split()
        rank = _int_at(k, buffer, _RANK).equals(len(axes))
        with k.when(~(rank & _int32_at(k, buffer, _TYPE).equals(FLOAT32))):
            _fail(k, frame, INVALID_ARGUMENT, f"m3sr: a buffer is not float32 of shape {shape}")
        right = k.true()
        for number, axis in enumerate(axes):
            size = _int_at(k, _pointer_at(k, buffer, _DIMENSIONS), 8 * number)
            if axis.isdigit():
                right &= size.equals(int(axis))
            else:
                right &= size.equals(sizes.setdefault(axis, size)) & (size >= 1)
        with k.when(~right):
            _fail(k, frame, INVALID_ARGUMENT, f"m3sr: a buffer's sizes do not fit the shape {shape}")


def _new_job(k: Code, frame: Value, kernel: Kernel) -> Value:
    """Allocates and fills a job; the calling thread has a reference."""
    signature = kernel.signature
    job = _allocate(k, k.int(2 * signature.words))
    with k.when(job.equals(_null(k))):
        _fail(k, frame, RESOURCE_EXHAUSTED, "m3sr: no memory for a call")
    for word, value in ((_NEXT, 0), (_DONE, 0), (_REFERENCES, 1), (_FAILED, 0)):
        _set_word(k, job, word, k.int(value))
    place = _FREE
    for buffer, _ in signature.buffers(k, frame):
        _set_word(k, job, place, _pointer_at(k, buffer, _DATA))
        place += 1
    for axis in signature.sizes:
        number, position = signature.first_use(axis)
        buffer = [pointer for pointer, _ in signature.buffers(k, frame)][number]
        _set_word(k, job, place, _int_at(k, _pointer_at(k, buffer, _DIMENSIONS), 8 * position))
        place += 1
    seen = Job(k, job, signature)
    for condition in kernel.constraints(seen):
        with k.when(~condition):
            _free(k, job)
            _fail(k, frame, INVALID_ARGUMENT, "m3sr: sizes of a kernel's buffers do not fit each other")
    _count_threads(k, frame, job)
    total = k.int(0)
    for phase, units in enumerate(kernel.phases(k, seen)):
        total = total + units
        _set_word(k, job, _PHASES + phase, total)
    _set_word(k, job, _TOTAL, total)
    _add_shared_memory(k, frame, job, kernel.shared(k, seen))
    return job


def _count_threads(k: Code, frame: Value, job: Value) -> None:
    """Asks XLA for the size of its pool; its error is the call's."""
    call = _record(k, (32, 0, _pointer_at(k, frame, _CONTEXT), job + 2 * _THREADS))
    error = _call_api(k, frame, _COUNT_THREADS, call)
    with k.when(error.differs(_null(k))):
        _free(k, job)
        k.builder.ret(error.ir)


def _add_shared_memory(k: Code, frame: Value, job: Value, floats: Value) -> None:
    with k.either(floats > 0) as (some, none):
        with some:
            raw = _allocate(k, floats)
            with k.when(raw.equals(_null(k))):
                _free(k, job)
                _fail(k, frame, RESOURCE_EXHAUSTED, "m3sr: no memory that a call's threads share")
            _set_word(k, job, _SHARED_RAW, raw)
            _set_word(k, job, _SHARED, _aligned(k, raw))
        with none:
            _set_word(k, job, _SHARED_RAW, k.int(0))


def _start_tasks(k: Code, frame: Value, job: Value, task: ir.Function) -> Value:
    """Schedules a task for each further thread that can find a unit; returns XLA's error if it refuses one."""
    error = k.cell(_null(k))
    helpers = k.minimum(_word(k, job, _THREADS), _word(k, job, _TOTAL)) - 1
    call = _record(k, (40, 0, _pointer_at(k, frame, _CONTEXT), k.untyped(task), job))
    with k.loop(helpers), k.when(error.get().equals(_null(k))):
        _atomic_add(k, job, _REFERENCES, 1)
        error.set(_call_api(k, frame, _SCHEDULE, call))
        with k.when(error.get().differs(_null(k))):
            _atomic_add(k, job, _REFERENCES, -1)
    return error.get()


def _wait(k: Code, job: Value, count: Value) -> None:
    """Until so many units are done; they are all being worked on, so this is short."""
    with k.repeat_while(lambda: _atomic_load(k, job, _DONE) < count):
        k.builder.call(k.external("m3sr_yield", INT32, []), [])


def _fail(k: Code, frame: Value, status: int, message: str) -> None:
    """Returns an XLA error from the handler."""
    text = k.text(message)
    call = _record(k, (28, 0, text, status))
    k.builder.ret(_call_api(k, frame, _CREATE_ERROR, call).ir)


def _call_api(k: Code, frame: Value, function: int, record: Value) -> Value:
    pointer = _pointer_at(k, _pointer_at(k, frame, _API), function)
    return Value(k, k.call_pointer(pointer, POINTER, [record]))


def _record(k: Code, words: Sequence[int | Value]) -> Value:
    """A structure of 64-bit words on the stack."""
    with k.builder.goto_entry_block():
        record = k.untyped(k.builder.alloca(INT, size=len(words)))
    for index, word in enumerate(words):
        _put(k, record, 8 * index, word if isinstance(word, Value) else k.int(word))
    return record


def _allocate(k: Code, floats: Value) -> Value:
    allocate = k.external("m3sr_allocate", POINTER, [INT])
    return Value(k, k.builder.call(allocate, [(floats * 4 + _ALIGNMENT).ir]))


def _aligned(k: Code, raw: Value) -> Value:
    address = Value(k, k.builder.ptrtoint(raw.ir, INT)) + (_ALIGNMENT - 1)
    return Value(k, k.builder.inttoptr(k.builder.and_(address.ir, INT(-_ALIGNMENT)), POINTER))


def _free(k: Code, pointer: Value) -> None:
    k.builder.call(k.external("m3sr_free", ir.VoidType(), [POINTER]), [pointer.ir])


def _null(k: Code) -> Value:
    return Value(k, ir.Constant(POINTER, None))


def _at(k: Code, base: Value, offset: int) -> Any:
    return k.builder.gep(base.ir, [INT(offset)], source_etype=BYTE)


def _pointer_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.load(_at(k, base, offset), typ=POINTER))


def _int_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.load(_at(k, base, offset), typ=INT))


def _int32_at(k: Code, base: Value, offset: int) -> Value:
    return Value(k, k.builder.sext(k.builder.load(_at(k, base, offset), typ=INT32), INT))


def _put(k: Code, base: Value, offset: int, value: Value) -> None:
    k.builder.store(value.ir, _at(k, base, offset))


def _put_int32(k: Code, base: Value, offset: int, value: Value) -> None:
    k.builder.store(k.builder.trunc(value.ir, INT32), _at(k, base, offset))


def _word(k: Code, job: Value, word: int) -> Value:
    return _int_at(k, job, 8 * word)


def _pointer_word(k: Code, job: Value, word: int) -> Value:
    return _pointer_at(k, job, 8 * word)


def _set_word(k: Code, job: Value, word: int, value: Value) -> None:
    _put(k, job, 8 * word, value)


def _atomic_add(k: Code, job: Value, word: int, value: int) -> Value:
    return Value(k, k.builder.atomic_rmw("add", _at(k, job, 8 * word), INT(value), "seq_cst"))


def _atomic_load(k: Code, job: Value, word: int) -> Value:
    return Value(k, k.builder.load_atomic(_at(k, job, 8 * word), "seq_cst", 8, typ=INT))
