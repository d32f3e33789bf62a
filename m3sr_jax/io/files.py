"""What all readers and writers share: one-line errors for unreadable files, and files that are never half-written."""

from __future__ import annotations

import io
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from m3sr_jax.errors import InputError

# Deflate shrinks by at most 1032 to 1: a header that claims more is damaged or malicious.
MAX_COMPRESSION = 1100
# Claims up to this many bytes always pass: stronger methods compress some megabytes of zeros to almost nothing.
ALLOWED_CLAIM = 2**25

# Writes the rows from a number on of the cube, and of its interval if there is one.
Put = Callable[[int, Sequence[np.ndarray]], None]


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turns whatever a format library raises on a damaged or malicious file into an InputError that names the file.

    Args:
        path: the file.
        expected: what the file should be, for the message.
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
        raise InputError(f"{path}: cannot be read as {expected} ({reason})") from error


def check_claim(path: Path, shape: tuple[int, ...], itemsize: int, compressed: bool = True) -> None:
    """Refuses a header that claims more data than the file can hold, before any memory is allocated.

    Args:
        path: the file.
        shape: the shape that its header claims.
        itemsize: bytes of one value.
        compressed: whether the file may hold the values compressed; claims of up to 32 MiB then always pass.

    Raises:
        InputError: the claim is larger than the file allows.
    """
    claimed, held = itemsize, path.stat().st_size
    for extent in shape:
        claimed *= int(extent)
    if claimed > (max(held * MAX_COMPRESSION, ALLOWED_CLAIM) if compressed else held):
        raise InputError(f"{path}: its header claims {shape}, {claimed} bytes, but the file has {held}; copy it again")


class BoundedFile(io.BufferedReader):
    """A file open for reading that allocates no more memory than it has bytes left, whatever a library asks for."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read(size)
        return super().read(max(min(size, self._length - self.tell()), 0))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary name in the same folder and renames that file to `path` when the block ends.

    Raises:
        InputError: the file cannot be written.
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
def written_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Creates a folder under a temporary name beside `path` and renames it to `path` when the block ends.

    Args:
        path: the folder to write.
        replace: whether to replace an existing folder; otherwise what another process wrote there meanwhile stays.

    Raises:
        InputError: the folder cannot be written.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if replace:
            shutil.rmtree(path, ignore_errors=True)
        os.replace(unfinished, path)
    except OSError as error:
        if replace or not path.is_dir():
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all; the caller turns an OSError into advice of its own.

    What is not Unicode becomes a question mark, as in `unicode`.
    The temporary name has the number of the process: several may write one file, such as the settings of a folder.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unicode(text: str) -> str:
    """Returns the text with a question mark for each byte that is not Unicode: a file's name may have such bytes."""
    return text.encode("utf-8", "replace").decode()


def band_rows(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, offset: int = 0
) -> Callable[[int, np.ndarray], None]:
    """Returns a function of (first row, rows) that writes rows of an (H, W, S) cube to a file of S planes.

    Values are little-endian. Seeking and writing, unlike a memory map, leaves no pages that count as memory in use.
    """
    height, width, bands = shape
    stored = dtype.newbyteorder("<")

    def put(start: int, rows: np.ndarray) -> None:
        for band in range(bands):
            file.seek(offset + (band * height + start) * width * stored.itemsize)
            file.write(np.ascontiguousarray(rows[..., band], stored).tobytes())

    return put
