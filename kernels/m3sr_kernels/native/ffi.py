"""How XLA calls a kernel: the frame it passes, checks of every buffer, errors, and tasks on XLA's own threads.

Offsets are those of XLA's `xla/ffi/api/c_api.h`, whose text promises that the layout changes only with the major
version.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from m3sr_kernels.native import job as jobs
from m3sr_kernels.native.assembler import INT, INT32, POINTER, Code, Module, Value
from m3sr_kernels.native.job import Job, Kernel, Signature

MAJOR, MINORS = 0, (1, 2, 3)  # versions of the interface whose layout this module knows
FLOAT32, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 11, 3, 8, 12

# Byte offsets. Of the call frame:
_EXTENSION, _API, _CONTEXT, _ARGUMENT_COUNT, _ARGUMENTS, _RESULT_COUNT, _RESULTS = 8, 16, 24, 56, 72, 96, 112
# of the table of functions that the runtime offers, and its size up to the last one used:
_API_MAJOR, _API_MINOR, _CREATE_ERROR, _SCHEDULE, _COUNT_THREADS, _API_SIZE = 32, 36, 48, 136, 144, 152
# of a buffer, and of the answer about a handler:
_TYPE, _DATA, _RANK, _DIMENSIONS = 16, 24, 32, 40
_META_MAJOR, _META_MINOR, _META_TRAITS, _META_STATE = 24, 28, 32, 40
ALIGNMENT = 64


def add_handler(module: Module, name: str, kernel: Kernel) -> None:
    """Adds the handler `name` of a kernel to a module."""
    work = _work_function(module, kernel)
    leave = module.function("leave", "p", _leave)

    def task(k: Code, job: Value) -> None:
        k.call(work, job)
        k.call(leave, job)

    task_function = module.function("task", "p", task)

    def handle(k: Code, frame: Value) -> None:
        with k.when(jobs.pointer_at(k, frame, _EXTENSION).differs(_null(k))):
            _answer_about_handler(k, frame)
        _check_buffers(k, frame, kernel.signature)
        job = _new_job(k, frame, kernel)
        problem = _start_tasks(k, frame, job, task_function)
        k.call(work, job)
        _wait(k, job, jobs.word(k, job, jobs.TOTAL))
        _free(k, jobs.pointer_word(k, job, jobs.SHARED_RAW))
        failed = jobs.word(k, job, jobs.FAILED)
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
            end = jobs.word(k, job, jobs.PHASES + phase)
            with k.when((unit >= start) & (unit < end)):
                if phase:
                    _wait(k, job, start)
                k.call(function, job, unit - start, scratch)
            start = end

    unit_function = module.function("unit", "pip", run_unit)

    def body(k: Code, job: Value) -> None:
        unit = k.cell(jobs.atomic_add(k, job, jobs.NEXT, 1))
        with k.when(unit.get() < jobs.word(k, job, jobs.TOTAL)):
            raw = _allocate(k, kernel.scratch(k, Job(k, job, signature)))
            with k.when(raw.equals(_null(k))):
                jobs.set_word(k, job, jobs.FAILED, k.int(1))
            scratch = _aligned(k, raw)
            with k.repeat_while(lambda: unit.get() < jobs.word(k, job, jobs.TOTAL)):
                with k.when(jobs.word(k, job, jobs.FAILED).equals(0)):
                    k.call(unit_function, job, unit.get(), scratch)
                jobs.atomic_add(k, job, jobs.DONE, 1)
                unit.set(jobs.atomic_add(k, job, jobs.NEXT, 1))
            _free(k, raw)

    return module.function("work", "p", body)


def _leave(k: Code, job: Value) -> None:
    """The last thread that knows a job frees it; one that XLA starts late finds it still there."""
    with k.when(jobs.atomic_add(k, job, jobs.REFERENCES, -1).equals(1)):
        _free(k, job)


def _answer_about_handler(k: Code, frame: Value) -> None:
    """Tells XLA which version of the interface this handler speaks, or that the runtime's is unknown."""
    api, extension = jobs.pointer_at(k, frame, _API), jobs.pointer_at(k, frame, _EXTENSION)
    major, minor = jobs.int32_at(k, api, _API_MAJOR), jobs.int32_at(k, api, _API_MINOR)
    unknown = major.differs(MAJOR) | (minor < MINORS[0]) | (jobs.int_at(k, api, 0) < _API_SIZE)
    with k.when(unknown):
        _fail(k, frame, UNIMPLEMENTED, "m3sr: XLA's FFI has a version that these kernels do not know")
    metadata = jobs.pointer_at(k, extension, 24)
    jobs.put_int32(k, metadata, _META_MAJOR, k.int(MAJOR))
    jobs.put_int32(k, metadata, _META_MINOR, k.minimum(minor, MINORS[-1]))
    jobs.put_int32(k, metadata, _META_TRAITS, k.int(0))
    jobs.put(k, metadata, _META_STATE, k.int(0))
    k.builder.ret(_null(k).ir)


def _check_buffers(k: Code, frame: Value, signature: Signature) -> None:
    """Number, type, rank and sizes of all buffers, before anything is read."""
    right = jobs.int_at(k, frame, _ARGUMENT_COUNT).equals(len(signature.arguments))
    right &= jobs.int_at(k, frame, _RESULT_COUNT).equals(len(signature.results))
    with k.when(~right):
        _fail(k, frame, INVALID_ARGUMENT, "m3sr: a kernel was called with the wrong number of buffers")
    sizes: dict[str, Value] = {}
    for buffer, shape in _buffers(k, frame, signature):
        axes = shape.split()
        rank = jobs.int_at(k, buffer, _RANK).equals(len(axes))
        with k.when(~(rank & jobs.int32_at(k, buffer, _TYPE).equals(FLOAT32))):
            _fail(k, frame, INVALID_ARGUMENT, f"m3sr: a buffer is not float32 of shape {shape}")
        right = k.true()
        for number, axis in enumerate(axes):
            size = jobs.int_at(k, jobs.pointer_at(k, buffer, _DIMENSIONS), 8 * number)
            if axis.isdigit():
                right &= size.equals(int(axis))
            else:
                right &= size.equals(sizes.setdefault(axis, size)) & (size >= 1)
        with k.when(~right):
            _fail(k, frame, INVALID_ARGUMENT, f"m3sr: a buffer's sizes do not fit the shape {shape}")


def _buffers(k: Code, frame: Value, signature: Signature) -> list[tuple[Value, str]]:
    """Every buffer of a call frame with its shape, arguments first."""
    found = []
    for place, shapes in ((_ARGUMENTS, signature.arguments), (_RESULTS, signature.results)):
        table = jobs.pointer_at(k, frame, place)
        found += [(jobs.pointer_at(k, table, 8 * number), shape) for number, shape in enumerate(shapes.values())]
    return found


def _new_job(k: Code, frame: Value, kernel: Kernel) -> Value:
    """Allocates and fills a job; the calling thread has a reference."""
    signature = kernel.signature
    job = _allocate(k, k.int(2 * signature.words))
    with k.when(job.equals(_null(k))):
        _fail(k, frame, RESOURCE_EXHAUSTED, "m3sr: no memory for a call")
    for place, value in ((jobs.NEXT, 0), (jobs.DONE, 0), (jobs.REFERENCES, 1), (jobs.FAILED, 0)):
        jobs.set_word(k, job, place, k.int(value))
    place = jobs.FREE
    for buffer, _ in _buffers(k, frame, signature):
        jobs.set_word(k, job, place, jobs.pointer_at(k, buffer, _DATA))
        place += 1
    for axis in signature.sizes:
        number, shape = next((n, shape.split()) for n, shape in enumerate(signature.shapes) if axis in shape.split())
        buffer, position = _buffers(k, frame, signature)[number][0], shape.index(axis)
        jobs.set_word(k, job, place, jobs.int_at(k, jobs.pointer_at(k, buffer, _DIMENSIONS), 8 * position))
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
        jobs.set_word(k, job, jobs.PHASES + phase, total)
    jobs.set_word(k, job, jobs.TOTAL, total)
    _add_shared_memory(k, frame, job, kernel.shared(k, seen))
    return job


def _count_threads(k: Code, frame: Value, job: Value) -> None:
    """Asks XLA for the size of its pool; its error is the call's."""
    call = _record(k, (32, 0, jobs.pointer_at(k, frame, _CONTEXT), job + 2 * jobs.THREADS))
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
            jobs.set_word(k, job, jobs.SHARED_RAW, raw)
            jobs.set_word(k, job, jobs.SHARED, _aligned(k, raw))
        with none:
            jobs.set_word(k, job, jobs.SHARED_RAW, k.int(0))


def _start_tasks(k: Code, frame: Value, job: Value, task: ir.Function) -> Value:
    """Schedules a task for each further thread that can find a unit; returns XLA's error if it refuses one."""
    error = k.cell(_null(k))
    helpers = k.minimum(jobs.word(k, job, jobs.THREADS), jobs.word(k, job, jobs.TOTAL)) - 1
    call = _record(k, (40, 0, jobs.pointer_at(k, frame, _CONTEXT), k.untyped(task), job))
    with k.loop(helpers), k.when(error.get().equals(_null(k))):
        jobs.atomic_add(k, job, jobs.REFERENCES, 1)
        error.set(_call_api(k, frame, _SCHEDULE, call))
        with k.when(error.get().differs(_null(k))):
            jobs.atomic_add(k, job, jobs.REFERENCES, -1)
    return error.get()


def _wait(k: Code, job: Value, count: Value) -> None:
    """Until so many units are done; they are all being worked on, so this is short."""
    with k.repeat_while(lambda: jobs.atomic_load(k, job, jobs.DONE) < count):
        k.builder.call(k.external("m3sr_yield", INT32, []), [])


def _fail(k: Code, frame: Value, status: int, message: str) -> None:
    """Returns an XLA error from the handler."""
    text = k.text(message)
    call = _record(k, (28, 0, text, status))
    k.builder.ret(_call_api(k, frame, _CREATE_ERROR, call).ir)


def _call_api(k: Code, frame: Value, function: int, record: Value) -> Value:
    pointer = jobs.pointer_at(k, jobs.pointer_at(k, frame, _API), function)
    return Value(k, k.call_pointer(pointer, POINTER, [record]))


def _record(k: Code, words: Sequence[int | Value]) -> Value:
    """A structure of 64-bit words on the stack."""
    with k.builder.goto_entry_block():
        record = k.untyped(k.builder.alloca(INT, size=len(words)))
    for index, value in enumerate(words):
        jobs.put(k, record, 8 * index, value if isinstance(value, Value) else k.int(value))
    return record


def _allocate(k: Code, floats: Value) -> Value:
    allocate = k.external("m3sr_allocate", POINTER, [INT])
    return Value(k, k.builder.call(allocate, [(floats * 4 + ALIGNMENT).ir]))


def _aligned(k: Code, raw: Value) -> Value:
    address = Value(k, k.builder.ptrtoint(raw.ir, INT)) + (ALIGNMENT - 1)
    return Value(k, k.builder.inttoptr(k.builder.and_(address.ir, INT(-ALIGNMENT)), POINTER))


def _free(k: Code, pointer: Value) -> None:
    k.builder.call(k.external("m3sr_free", ir.VoidType(), [POINTER]), [pointer.ir])


def _null(k: Code) -> Value:
    return Value(k, ir.Constant(POINTER, None))
