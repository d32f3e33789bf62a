"""MATLAB v5 files: numeric arrays from untrusted files, those in structs included.

This is not scipy's reader because a wrong type code in a file crashes that one instead of raising.

Source: MathWorks, "MAT-File Format", chapter 1 (Level 5 MAT-files).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m3sr_jax.io.entries import Entry, unreadable

HEADER_BYTES = 128
# Enough for all that precedes an array's numbers: flags, extents, name.
MATRIX_HEADER_BYTES = 512
MATRIX, COMPRESSED, UTF8 = 14, 15, 16
ELEMENT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ARRAY_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
STRUCT, CHAR = 2, 4
OTHER_CLASSES = {1: "a cell array", 2: "an array of structs", 3: "an object", 5: "a sparse matrix"}
MAX_TEXT = 4096
COMPLEX, LOGICAL = 0x0800, 0x0200
MAX_DEPTH = 8  # structs within structs


@dataclass(frozen=True)
class _Matrix:
    """The header of a matrix element, and its remaining parts."""

    kind: int
    flags: int
    name: str
    shape: tuple[int, ...]
    parts: Iterator[tuple[int, memoryview]]

    @property
    def dtype(self) -> str | None:
        """The type of its numbers; None if it is not numeric."""
        return ARRAY_CLASSES.get(self.kind)


def matlab5_entries(path: Path) -> dict[str, Entry]:
    """Lists the arrays of a file without their numbers; members of structs are `a.b`.

    Raises:
        ValueError: the file is not MATLAB v5, or claims more than it holds.
        zlib.error: compressed data are damaged.
    """
    # A memory map reads only what is used; unlike an mmap object, the array needs no closing.
    content = memoryview(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:HEADER_BYTES]))
    if order is None:
        # Version 4 begins with five small integers, whose first is the type.
        old = len(content) > 20 and struct.unpack_from("<5i", content)[0] in range(4053)
        raise ValueError("MATLAB v4, whose arrays have two axes" if old else "no MATLAB v5 header")
    entries: dict[str, Entry] = {}
    for kind, payload in _elements(content[HEADER_BYTES:], order):
        entries |= _element_entries(kind, payload, order)
    return entries


def _element_entries(kind: int, payload: memoryview, order: str) -> dict[str, Entry]:
    """Lists what one element of the file holds; a compressed array is decompressed only when it is read."""
    if kind == COMPRESSED:
        start = zlib.decompressobj().decompress(bytes(payload[:MATRIX_HEADER_BYTES]), MATRIX_HEADER_BYTES)
        if len(start) < 8 or struct.unpack_from(order + "I", start)[0] != MATRIX:
            return {}
        matrix = _matrix_header(memoryview(start[8:]), order)
        if matrix.kind != STRUCT:
            return _array_entry(matrix, lambda: _content(_matrix_header(_inflated(payload, order), order), order))
        payload = _inflated(payload, order)
    elif kind != MATRIX:
        return {}
    return _matrix_entries(payload, order, "", 0)


def _inflated(payload: memoryview, order: str) -> memoryview:
    return next(_elements(memoryview(zlib.decompress(payload)), order), (0, memoryview(b"")))[1]


def _matrix_entries(payload: memoryview, order: str, prefix: str, depth: int) -> dict[str, Entry]:
    """Lists an array, or the arrays in a struct of one element."""
    matrix = _matrix_header(payload, order)
    name = prefix or matrix.name
    if matrix.kind != STRUCT:
        named = _Matrix(matrix.kind, matrix.flags, name, matrix.shape, matrix.parts)
        return _array_entry(named, lambda: _content(_matrix_header(payload, order), order))
    if math.prod(matrix.shape) != 1 or depth >= MAX_DEPTH:
        return {name: unreadable(name, OTHER_CLASSES[STRUCT], matrix.shape)} if name else {}
    (_, width), (_, names) = (next(matrix.parts, (0, memoryview(b""))) for _ in range(2))
    length = struct.unpack_from(order + "i", width)[0] if len(width) >= 4 else 0
    if length <= 0 or len(names) % length:
        raise ValueError(f"the struct `{name}` has damaged names of fields")
    fields = [bytes(names[at : at + length]).split(b"\0")[0].decode("latin-1") for at in range(0, len(names), length)]
    entries: dict[str, Entry] = {}
    for field, (kind, part) in zip(fields, matrix.parts, strict=False):
        if kind == MATRIX and len(part):
            entries |= _matrix_entries(part, order, f"{name}.{field}", depth + 1)
    return entries


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yields type and data of each element; type and length take eight bytes, or four if the data fit in four more."""
    start = 0
    while start + 8 <= len(content):
        kind, length = struct.unpack_from(order + "II", content, start)
        small = kind >> 16
        data = start + (4 if small else 8)
        kind, length = (kind & 0xFFFF, small) if small else (kind, length)
        if data + length > len(content) or small > 4:
            raise ValueError(f"an element claims {length} bytes, but {len(content) - data} are left")
        yield kind, content[data : data + length]
        start = data + length
        if kind != COMPRESSED:
            start = -(-start // 8) * 8


def _matrix_header(payload: memoryview, order: str) -> _Matrix:
    parts = _elements(payload, order)
    (_, flags), (_, extents), (_, label) = (next(parts, (0, memoryview(b""))) for _ in range(3))
    word = struct.unpack_from(order + "I", flags)[0] if len(flags) >= 4 else 0
    shape = struct.unpack(f"{order}{len(extents) // 4}i", extents[: len(extents) // 4 * 4])
    return _Matrix(word & 0xFF, word, bytes(label).decode("latin-1"), shape, parts)


def _array_entry(matrix: _Matrix, read: Callable[[], np.ndarray]) -> dict[str, Entry]:
    if min(matrix.shape, default=-1) < 0 or not matrix.name:
        return {}
    if matrix.kind in OTHER_CLASSES:
        return {matrix.name: unreadable(matrix.name, OTHER_CLASSES[matrix.kind], matrix.shape)}
    if matrix.kind == CHAR:
        return {matrix.name: Entry(matrix.name, matrix.shape, np.dtype(str), read)}
    if matrix.dtype is None:
        return {}
    numbers = np.dtype("c16" if matrix.flags & COMPLEX else matrix.dtype)
    return {matrix.name: Entry(matrix.name, matrix.shape, np.dtype(bool) if matrix.flags & LOGICAL else numbers, read)}


def _content(matrix: _Matrix, order: str) -> np.ndarray:
    """Returns numbers, flags, or text as an array of one string."""
    if matrix.kind == CHAR:
        kind, data = next(matrix.parts, (0, memoryview(b"")))
        if kind == UTF8 or kind not in ELEMENT_TYPES:
            return np.array(bytes(data[:MAX_TEXT]).decode("utf-8", "replace"))
        size = np.dtype(ELEMENT_TYPES[kind]).itemsize
        codes = np.frombuffer(data[: min(len(data), MAX_TEXT) // size * size], order + ELEMENT_TYPES[kind])
        return np.array("".join(chr(int(code)) for code in codes if 0 < code < 2**16))
    numbers = _numbers(matrix, order)
    return numbers != 0 if matrix.flags & LOGICAL else numbers


def _numbers(matrix: _Matrix, order: str) -> np.ndarray:
    """Returns the numbers of a real array."""
    kind, data = next(matrix.parts, (0, memoryview(b"")))
    if kind not in ELEMENT_TYPES or matrix.dtype is None:
        raise ValueError(f"`{matrix.name}` holds no numbers")
    stored = np.dtype(order + ELEMENT_TYPES[kind])
    if math.prod(matrix.shape) * stored.itemsize != len(data):
        found = f"{stored.itemsize} bytes each, but holds {len(data)} bytes"
        raise ValueError(f"`{matrix.name}` claims shape {matrix.shape} of {found}")
    return np.frombuffer(data, stored).reshape(matrix.shape, order="F").astype(matrix.dtype)
