"""Calls of compiled handlers without XLA: frames built by hand, buffers that end at a page nobody may touch."""

import ctypes
import mmap
import threading

import numpy as np

PAGE = mmap.PAGESIZE
HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CREATE_ERROR, SCHEDULE, COUNT_THREADS = 48, 136, 144
FLOAT32 = 11


class Fenced:
    """A float32 array whose last byte (or first, if `before`) borders on a page that faults when touched."""

    def __init__(self, values, *, before=False):
        values = np.ascontiguousarray(values, np.float32)
        pages = -(-values.nbytes // PAGE) or 1
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        offset = PAGE if before else (pages + 1) * PAGE - values.nbytes
        self.array = np.frombuffer(self._map, np.float32, values.size, offset).reshape(values.shape)
        self.array[...] = values
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for page in (0, pages + 1):
            assert protect(self._start + page * PAGE, PAGE, 0) == 0


class Runtime:
    """The part of XLA's FFI that a handler calls, in Python.

    Args:
      threads: of the pool; tasks run on Python threads.
      refuse: which functions return an error: SCHEDULE, COUNT_THREADS.
      version: major and minor number.
    """

    def __init__(self, threads=1, refuse=(), version=(0, 3)):
        self.messages, self.tasks, self._kept = [], [], []
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
