"""Calls of compiled handlers without XLA: frames built by hand, buffers that end at a page nobody may touch."""

import ctypes
import mmap
import threading
import weakref

import numpy as np

PAGE = mmap.PAGESIZE
HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CREATE_ERROR, SCHEDULE, COUNT_THREADS = 48, 136, 144
FLOAT32 = 11
LINE = 64  # bytes of a cache line
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
LIBRARY = ctypes.CDLL(None, use_errno=True)
LIBRARY.mmap.restype = ctypes.c_void_p
LIBRARY.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBRARY.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBRARY.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def fenced_pages(size):
    """Memory for `size` bytes between two pages that fault when touched: address of the first page, and of the last."""
    pages = -(-size // PAGE) or 1
    start = LIBRARY.mmap(None, (pages + 2) * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, FLAGS, -1, 0)
    end = start + (pages + 1) * PAGE
    for page in (start, end):
        assert LIBRARY.mprotect(page, PAGE, 0) == 0
    return start, end


class Fenced:
    """A float32 array whose last byte (or first, if `before`) borders on a page that faults when touched."""

    def __init__(self, values, *, before=False):
        values = np.ascontiguousarray(values, np.float32)
        start, end = fenced_pages(values.nbytes)
        memory = (ctypes.c_float * values.size).from_address(start + PAGE if before else end - values.nbytes)
        weakref.finalize(memory, LIBRARY.munmap, start, end + PAGE - start).atexit = False
        self.array = np.frombuffer(memory, np.float32).reshape(values.shape)
        self.array[...] = values


class FencedMemory:
    """What kernels allocate, each block between forbidden pages; a block that is freed faults as well.

    Kernels ask for a cache line more than they use, to begin on one; the blocks they get begin on one and are shorter.
    """

    def __init__(self):
        self._blocks = {}
        kinds = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t), ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self._kept = kinds[0](self._allocate), kinds[1](self._free)
        names = "m3sr_allocate", "m3sr_free"
        self.functions = {n: ctypes.cast(f, ctypes.c_void_p).value for n, f in zip(names, self._kept, strict=True)}

    def _allocate(self, size):
        start, end = fenced_pages(size)
        block = (end - (size - LINE)) // LINE * LINE
        self._blocks[block] = start, end
        return block

    def _free(self, block):
        if block:
            start, end = self._blocks.pop(block)
            LIBRARY.munmap(start, end + PAGE - start)


class Runtime:
    """The part of XLA's FFI that a handler calls, in Python.

    Args:
      threads: of the pool; tasks run on Python threads.
      refuse: which functions return an error: SCHEDULE, COUNT_THREADS.
      version: major and minor number.
      late: tasks start when the call has returned, as on a busy machine; the calling thread does all the work.
    """

    def __init__(self, threads=1, refuse=(), version=(0, 3), *, late=False):
        self.messages, self.tasks, self._kept, self._late = [], [], [], late
        self.table = (ctypes.c_int64 * 22)()
        self.table[0] = ctypes.sizeof(self.table)
        self.table[4] = version[0] | version[1] << 32
        self._offer(CREATE_ERROR, self._create_error)
        self._offer(SCHEDULE, (lambda _: 77) if SCHEDULE in refuse else self._schedule)

        def count(record):
            if COUNT_THREADS in refuse:
                return 78
            ctypes.c_int64.from_address(ctypes.c_int64.from_address(record + 24).value).value = threads
            return None

        self._offer(COUNT_THREADS, count)

    def _offer(self, place, function):
        made = HANDLER(function)
        self._kept.append(made)
        self.table[place // 8] = ctypes.cast(made, ctypes.c_void_p).value

    def _create_error(self, record):
        message = ctypes.c_char_p.from_address(record + 16).value
        code = ctypes.c_int32.from_address(record + 24).value
        self.messages.append((code, message.decode()))
        return 1000 + code

    def _schedule(self, record):
        function, data = (ctypes.c_int64.from_address(record + place).value for place in (24, 32))
        thread = threading.Thread(target=TASK(function), args=(data,))
        self.tasks.append(thread)
        if not self._late:
            thread.start()

    def call(self, address, arguments, results, *, types=FLOAT32):
        """Calls a handler; returns what it returns, None for success. Shapes are those of the arrays."""
        keep = []

        def words(*values):
            block = (ctypes.c_int64 * len(values))(*values)
            keep.append(block)
            return ctypes.addressof(block)

        def buffer(array):
            return words(48, 0, types, array.ctypes.data, array.ndim, words(*array.shape))

        frame = (ctypes.c_int64 * 22)()
        frame[0], frame[2], frame[4] = ctypes.sizeof(frame), ctypes.addressof(self.table), 3
        frame[7], frame[9] = len(arguments), words(*map(buffer, arguments))
        frame[12], frame[14] = len(results), words(*map(buffer, results))
        answer = HANDLER(address)(ctypes.addressof(frame))
        for task in self.tasks:
            if self._late:
                task.start()
            task.join()
        return answer

    def ask(self, address):
        """The answer about the handler's version, (major, minor), or None if it refuses the runtime."""
        metadata = (ctypes.c_int64 * 6)()
        extension = (ctypes.c_int64 * 4)(32, 1, 0, ctypes.addressof(metadata))
        frame = (ctypes.c_int64 * 22)()
        frame[1], frame[2] = ctypes.addressof(extension), ctypes.addressof(self.table)
        if HANDLER(address)(ctypes.addressof(frame)):
            return None
        return metadata[3] & 0xFFFFFFFF, metadata[3] >> 32
