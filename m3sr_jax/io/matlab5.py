"""MATLAB v5 files: numeric arrays from untrusted files.

This is not scipy's reader because a wrong type code in a file crashes that one instead of raising.

Source: MathWorks, "MAT-File Format", chapter 1 (Level 5 MAT-files).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HEADER_BYTES = 128
# Enough for all that precedes an array's numbers: flags, extents, name.
MATRIX_HEADER_BYTES = 512
MATRIX, COMPRESSED = 14, 15
ELEMENT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ARRAY_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x0800


def read_matlab5(path: Path, max_values: int | None = None) -> dict[str, np.ndarray]:
    """Reads all real numeric arrays by name, with the axes MATLAB shows; skips cells, structs and text.

    Args:
        path: the file.
        max_values: larger arrays are not read; zeros of their shape, which take no memory, stand in.

    Raises:
        ValueError: the file is not MATLAB v5, or claims more than it holds.
        zlib.error: compressed data are damaged.
    """
    arrays = {}
    # A memory map reads only what is used; unlike an mmap object, the array needs no closing.
    content = memoryview(path.read_bytes() if max_values is None else np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:HEADER_BYTES]))
    if order is None:
        raise ValueError("no MATLAB v5 header")
    for kind, payload in _elements(content[HEADER_BYTES:], order):
        if max_values is not None:
            shapes = _shape(kind, payload, order)
            arrays |= {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
            if any(math.prod(shape) > max_values for shape in shapes.values()):
                continue
        if kind == COMPRESSED:
            kind, payload = next(_elements(memoryview(zlib.decompress(payload)), order), (0, payload))
        if kind == MATRIX:
            arrays |= _matrix(payload, order)
    return arrays


def _shape(kind: int, payload: memoryview, order: str) -> dict[str, tuple[int, ...]]:
    """Returns name → shape of the numeric array in an element, from the element's first bytes."""
    start = bytes(payload[:MATRIX_HEADER_BYTES])
    if kind == COMPRESSED:
        start = zlib.decompressobj().decompress(start, MATRIX_HEADER_BYTES)
        kind, start = struct.unpack_from(order + "I", start)[0], start[8:]
    if kind != MATRIX:
        return {}
    target, name, shape, _ = _matrix_header(memoryview(start), order)
    return {} if target is None else {name: shape}


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


def _matrix_header(
    payload: memoryview, order: str
) -> tuple[str | None, str, tuple[int, ...], Iterator[tuple[int, memoryview]]]:
    """Returns type (None unless real and numeric), name and shape of a matrix, and its remaining parts."""
    parts = _elements(payload, order)
    (_, flags), (_, extents), (_, label) = (next(parts, (0, memoryview(b""))) for _ in range(3))
    word = struct.unpack_from(order + "I", flags)[0] if len(flags) >= 4 else 0
    target = None if word & COMPLEX else ARRAY_CLASSES.get(word & 0xFF)
    shape = struct.unpack(f"{order}{len(extents) // 4}i", extents[: len(extents) // 4 * 4])
    return target, bytes(label).decode("latin-1"), shape, parts


def _matrix(payload: memoryview, order: str) -> dict[str, np.ndarray]:
    """Returns name → array, or nothing if the matrix is not real and numeric."""
    target, name, shape, parts = _matrix_header(payload, order)
    kind, data = next(parts, (0, memoryview(b"")))
    if target is None or kind not in ELEMENT_TYPES:
        return {}
    stored = np.dtype(order + ELEMENT_TYPES[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(data):
        raise ValueError(f"`{name}` claims shape {shape} of {stored.itemsize} bytes each, but holds {len(data)} bytes")
    return {name: np.frombuffer(data, stored).reshape(shape, order="F").astype(target)}
