"""ENVI files: a text header `.hdr` beside raw numbers.

Source: the published description of the ENVI header format (L3Harris Geospatial, "ENVI Header Files").
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Stored
from m3sr_jax.io.envi_header import DATA_TYPES, Header, read_header
from m3sr_jax.io.files import band_rows, check_claim, reading, written_whole
from m3sr_jax.io.gdal_items import refuse_mask, sidecar_items
from m3sr_jax.io.gdal_tags import apply_items

# Axes of each interleave (lines, bands, samples by first letter), and their transpose to (lines, samples, bands).
ORDERS = {"bsq": ("bls", (1, 2, 0)), "bil": ("lbs", (0, 2, 1)), "bip": ("lsb", (0, 1, 2))}
# The usual names come first where several files fit.
DATA_SUFFIXES = (".img", ".dat", ".raw", ".bsq", ".bil", ".bip", "")
GZIP = b"\x1f\x8b"
CHUNK = 2**20


def read_envi(path: Path, data: Path | None = None, *, own_wavelengths: bool = True) -> Stored:
    """Reads the cube of a `.hdr`: BSQ, BIL or BIP, either byte order, with header offset, gzipped or not.

    Args:
        path: the header.
        data: the file of numbers; by default the one beside the header, see `data_file`.
        own_wavelengths: False: the user gives others, so that the header's do not matter.

    Raises:
        InputError: the header lacks a field, has one out of range or that cannot be applied, or claims more than the
            data file holds.
    """
    header = read_header(path)
    header.check_kind()
    extents = {field[0]: header.integer(field, low=1) for field in ("lines", "samples", "bands")}
    (dtype, interleave), offset = header.dtype(), header.integer("header offset", default="0")
    letters, order = ORDERS[interleave]
    shape = tuple(extents[letter] for letter in letters)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    data, notes = (data, []) if data is not None else data_file(header, offset + size)
    values = _numbers(header, data, shape, dtype, offset)
    coding, applied = header.coding(extents["b"])
    centres, units, named = header.wavelengths(extents["b"]) if own_wavelengths else (None, "", [])
    if dtype.itemsize > 1 and "byte order" not in header.fields:
        notes.append("no byte order in the header: taken for little-endian")
    stored = Stored(
        values.transpose(order).astype(dtype.newbyteorder("=")),
        coding,
        bands_axis=2,
        centres=centres,
        units=units,
        good=header.good_bands(extents["b"]),
        notes=[*notes, *applied, *named],
    )
    refuse_mask(data)
    apply_items(path, stored, sidecar_items(data), extents["b"], own_wavelengths=own_wavelengths)
    return stored


def find_header(data: Path) -> Path | None:
    """Returns the header of a data file, NAME.EXT.hdr or NAME.hdr without regard to case; None if there is none."""
    names = _beside(data)
    for wanted in (f"{data.name}.hdr", f"{data.stem}.hdr"):
        if (found := names.get(wanted.lower())) is not None and found.name != data.name:
            return found
    return None


def data_file(header: Header, size: int) -> tuple[Path, list[str]]:
    """Finds a header's data file: NAME, or NAME with any suffix and the right size, without regard to case.

    Args:
        header: its path is NAME.hdr, or NAME.EXT.hdr where the data file is NAME.EXT.
        size: bytes up to the last number.

    Returns:
        The file, and notes on the choice.

    Raises:
        InputError: there is none.
    """
    path = header.path
    stem = path.name[: -len(path.suffix)].lower()
    beside = {name: found for name, found in _beside(path).items() if found != path and not name.endswith(".hdr")}
    usual = [beside[stem + suffix] for suffix in DATA_SUFFIXES if stem + suffix in beside]
    fitting = [found for found in usual if found.stat().st_size >= size or header.compressed]
    others = [found for name, found in sorted(beside.items()) if name.startswith(stem + ".") and found not in usual]
    fitting += [found for found in others if found.stat().st_size == size or _gzipped(found)]
    if not (usual or fitting):
        raise InputError(
            f"{path}: no data file beside it; expected {path.stem} with {', '.join(DATA_SUFFIXES[:-1])}, "
            f"with no suffix, or with any suffix and {size} bytes"
        )
    chosen = (fitting or usual)[0]
    notes = [] if chosen in usual else [f"numbers from {chosen.name}"]
    rivals = [found.name for found in fitting if found.stat().st_size == size and found != chosen]
    return chosen, [f"numbers from {chosen.name}, not from {', '.join(rivals[:3])}"] if rivals else notes


def data_files(header: Path, suffixes: Sequence[str]) -> list[Path]:
    """Returns the files beside NAME.hdr that are called NAME with one of `suffixes`, without regard to case."""
    beside, stem = _beside(header), header.stem.lower()
    # NAME.EXT.hdr describes NAME.EXT.
    own = [beside[stem]] if stem in beside and Path(stem).suffix in suffixes else []
    return own + [beside[stem + suffix] for suffix in suffixes if stem + suffix in beside]


def _beside(path: Path) -> dict[str, Path]:
    """Returns lower-case name → file in the folder of `path`; its own spelling wins over others."""
    try:
        names = sorted(os.listdir(path.parent), reverse=True)
    except OSError as error:
        raise InputError(f"{path}: its folder cannot be read ({error.strerror})") from error
    own = path.name[: len(path.stem)]
    names.sort(key=lambda name: name.startswith(own))
    mine = {name.lower(): path.parent / name for name in names if name.lower().startswith(path.stem.lower())}
    return {name: found for name, found in mine.items() if found.is_file()}


def _gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


def _numbers(header: Header, data: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int) -> np.ndarray:
    """Reads the numbers of a data file, after checking that it can hold them."""
    with reading(data, "ENVI data"):
        compressed = header.compressed or (data.suffix.lower() == ".gz" and _gzipped(data))
        if header.compressed and not _gzipped(data):
            raise InputError(f"{data}: {header.path.name} declares file compression = 1, but this is not a gzip file")
        check_claim(data, shape, dtype.itemsize, compressed)
        count = int(np.prod(shape, dtype=np.int64))
        if compressed:
            check_claim(data, (offset + count * dtype.itemsize,), 1)
            content = _inflated(data, offset + count * dtype.itemsize)[offset:]
            values = np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)
        else:
            values = np.fromfile(data, dtype, count=count, offset=offset)
    if values.size < count:
        claim = f"{header.path.name} claims {shape} values after {offset} bytes"
        raise InputError(f"{data}: the file is shorter than its header says ({claim}); copy it again")
    return values.reshape(shape)


def _inflated(path: Path, size: int) -> bytes:
    """Returns the first `size` bytes of a gzip file of one or more members; what follows is not looked at."""
    parts, left = [], size
    with path.open("rb") as file:
        member, pending = zlib.decompressobj(31), b""
        while left > 0:
            pending = pending or file.read(CHUNK)
            if not pending:
                break
            if member.eof:
                if not pending.startswith(GZIP[:1]):
                    break  # padding after the last member
                member = zlib.decompressobj(31)
            parts.append(member.decompress(pending, left))
            left -= len(parts[-1])
            pending = member.unused_data if member.eof else member.unconsumed_tail
    return b"".join(parts)


@contextmanager
def envi_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes `.hdr` and `.img` side by side: BSQ, little-endian; see `m3sr_jax.io.cube_writer.cube_writer`."""
    lines, samples, bands = shape
    kind = next(code for code, letter in DATA_TYPES.items() if np.dtype(letter) == dtype)
    centres = ", ".join(f"{centre:.6g}" for centre in wavelengths)
    described = source.encode("ascii", "replace").decode().translate({ord(brace): None for brace in "{}"})
    header = (
        "ENVI\n"
        f"samples = {samples}\nlines = {lines}\nbands = {bands}\n"
        f"header offset = 0\nfile type = ENVI Standard\ndata type = {kind}\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{centres}}}\n"
    )
    if scale is not None:
        header += f"reflectance scale factor = {scale:g}\n"
    if source:
        header += f"description = {{{described}}}\n"
    with written_whole(path) as text, written_whole(path.with_suffix(".img")) as data:
        with data.open("wb") as file:
            yield band_rows(file, shape, dtype)
        text.write_text(header, encoding="ascii")
