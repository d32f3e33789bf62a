"""What all readers and writers share: failures told in one line, and files that are never half-written."""

from __future__ import annotations

import io
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from m3sr_jax.errors import InputError

# What a file of bands without wavelengths is taken for.
USUAL_BANDS = 31
# Deflate shrinks by at most 1032 to 1; a header that claims more than that was not written with its data.
MOST_COMPRESSION = 1100
# Bytes that may be set aside on a header's word: stronger methods make some megabytes of zeros as small as they like.
HARMLESS = 2**25


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a format library raises on a damaged or hostile file into an InputError that names it.

    Args:
        path: the file.
        what: what it should be, for the message.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    for library in ("PIL", "tifffile"):  # they log what they raise: one message is enough
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the libraries document no closed set
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be read as {what} ({reason})") from error


def check_claim(path: Path, shape: tuple[int, ...], itemsize: int, compressed: bool = True) -> None:
    """Refuses a header that claims more data than the file can hold, before memory is set aside for them.

    Args:
        path: the file.
        shape: what its header claims.
        itemsize: bytes of one value.
        compressed: whether the values may take less in the file; then a claim of 32 MiB passes whatever the file holds.

    Raises:
        InputError: with the claim and the size of the file.
    """
    claimed, held = itemsize, path.stat().st_size
    for extent in shape:
        claimed *= int(extent)
    if claimed > (max(held * MOST_COMPRESSION, HARMLESS) if compressed else held):
        raise InputError(f"{path}: its header claims {shape}, {claimed} bytes, but the file has {held}; it is damaged")


class BoundedFile(io.BufferedReader):
    """A file opened to be read, which sets no memory aside for more than is left of it, whatever a library asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read(size)
        return super().read(max(min(size, self._length - self.tell()), 0))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name in the same folder, and renames it to `path` once the block is through.

    Raises:
        InputError: a folder or file that cannot be written.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """Creates a folder under a temporary name beside `path`; once the block ends it takes the place of `path`.

    Raises:
        InputError: the folder cannot be written.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        shutil.rmtree(path, ignore_errors=True)
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def band_rows(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, offset: int = 0
) -> Callable[[int, np.ndarray], None]:
    """Gives a function of (first row, rows) that puts rows of an (H, W, S) cube into a file of S planes, little-endian.

    Written at their places, not through a memory map, whose pages would count as memory.
    """
    height, width, bands = shape
    stored = dtype.newbyteorder("<")

    def put(start: int, rows: np.ndarray) -> None:
        for band in range(bands):
            file.seek(offset + (band * height + start) * width * stored.itemsize)
            file.write(np.ascontiguousarray(rows[..., band], stored).tobytes())

    return put
