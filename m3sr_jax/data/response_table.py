"""Camera responses as text: tables of any delimiter, order and naming of columns, with comments and lines of units."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

EXPECTED = "expected columns wavelength, R, G, B"
# Words of a column's name, lower-case, that tell what it holds.
WAVELENGTH_WORDS = re.compile(r"wave|lambda|wellen|longueur|onda|^(nm|um|µm|μm|wl|λ)$")
CHANNEL_WORDS = {
    "r": ("r", "red", "rouge", "rot", "rojo", "rosso"),
    "g": ("g", "green", "vert", "grün", "verde", "g1", "g2", "gr", "gb", "green1", "green2", "greenr", "greenb"),
    "b": ("b", "blue", "bleu", "blau", "azul", "blu"),
}
CAMSPEC_NM = np.arange(400.0, 721, 10)  # the camspec database states no wavelengths: 33 numbers a channel
_DECIMAL_COMMA = re.compile(r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$")
COMMENTS = ("#", "%", "//", "!")


@dataclass
class ResponseTable:
    """Wavelengths as the file has them, responses (K, 3) as R, G, B with NaN in empty cells, and notes."""

    wavelengths: np.ndarray
    response: np.ndarray
    notes: list[str] = field(default_factory=list)


def read_response_table(path: Path) -> ResponseTable:
    """Reads a table of text.

    Raises:
        InputError: the file is missing or is no such table.
    """
    with reading(path, "rows `wavelength, R, G, B` of numbers"):
        names, rows = _named(_rows(_text(path)))
        if _is_camspec(names, rows):
            table = np.array([[_number(cell) for cell in row] for row in rows])
            return ResponseTable(CAMSPEC_NM, table.T, ["33 numbers a channel, taken for 400-720 nm (camspec database)"])
        columns, notes = _columns(path, names, len(rows[0]) if rows else 0, len(rows))
        if any(len(row) < max(map(max, columns)) + 1 for row in rows):
            raise ValueError("a row has fewer cells than the others")
        cells = [[[_number(row[at]) for at in column] for column in columns] for row in rows]
        # Two green channels are averaged.
        values = np.array([[sum(column) / len(column) for column in row] for row in cells])
    return ResponseTable(values[:, 0], values[:, 1:], notes)


def read_numbers(path: Path) -> np.ndarray:
    """Reads a table of numbers, (rows, columns), below any names of columns.

    Raises:
        ValueError: a cell is no number, or rows differ in length.
    """
    return np.array([[_number(cell) for cell in row] for row in _named(_rows(_text(path)))[1]])


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _rows(text: str) -> list[list[str]]:
    """Splits a text into rows of cells; comments, blank lines, quotes and columns without content are left out."""
    lines = [line.strip("\r\n\ufeff") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith(COMMENTS)]
    sample = next((line for line in reversed(lines) if re.search(r"\d", line)), "")
    delimiter = next((mark for mark in "\t;|," if mark in sample), None)
    if delimiter == "," and re.search(r"\d[ ]+[-+]?\d", sample):  # blanks separate, commas are decimal
        delimiter = None
    if delimiter is None:
        split = [re.split(r"\s+", line.strip()) for line in lines]
    else:
        split = list(csv.reader(lines, delimiter=delimiter))
    rows = [[_DECIMAL_COMMA.sub(r"\1.\2", cell.strip().strip("'").strip()) for cell in row] for row in split]
    while rows and all(len(row) > 1 and not row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return [row for row in rows if any(row)]


def _named(rows: list[list[str]]) -> tuple[list[str] | None, list[list[str]]]:
    """Separates names of columns and lines of units from rows of numbers; turns a table whose rows are channels."""
    labels = [row[0].lower() for row in rows]
    if rows and all(sum(label in words for label in labels) == 1 for words in CHANNEL_WORDS.values()):
        width = min(map(len, rows))
        rows = [list(column) for column in zip(*(row[:width] for row in rows), strict=True)]
    names = None
    while rows and not any(_is_number(cell) for cell in rows[0]):
        head, rows = rows[0], rows[1:]
        if names is None or sum(_channel(name) is not None for name in head) > 1:
            names = head
    return names, rows


def _columns(path: Path, names: list[str] | None, width: int, height: int) -> tuple[list[list[int]], list[str]]:
    """Returns the columns of wavelength, R, G and B, each of which may be several, and notes."""
    kinds = [_channel(name) for name in names or []]
    found = [[at for at, kind in enumerate(kinds) if kind == wanted] for wanted in ("wavelength", "r", "g", "b")]
    if names and not found[0] and all(found[1:]) and kinds[:1] == [None]:
        found[0] = [0]
    if all(found) and height:
        if len(found[0]) > 1 or len(found[1]) > 1 or len(found[3]) > 1:
            raise InputError(f"camera {path}: found columns {', '.join(names or [])}; expected one each for R and B")
        others = [name for at, name in enumerate(names or []) if name and kinds[at] is None and [at] not in found]
        notes = [f"{len(found[2])} green channels averaged"] if len(found[2]) > 1 else []
        return found, notes + ([f"columns not used: {', '.join(others)}"] if others else [])
    named = [kind for kind in kinds if kind in ("r", "g", "b")]
    if width == 4 and height and named in ([], ["r", "g", "b"]):
        other = ["columns taken for wavelength, R, G, B, in this order"] if names else []
        return [[0], [1], [2], [3]], other
    listed = f" with columns {', '.join(names)}" if names else ""
    raise InputError(f"camera {path}: found a table of shape ({height}, {width}){listed}; {EXPECTED}")


def _channel(name: str) -> str | None:
    """Returns what a column of this name holds: "wavelength", "r", "g", "b"; None if the name does not say."""
    plain = re.sub(r"[\[(].*?[\])]", " ", name.lower())
    words = re.sub(r"[^\wλ]|_", " ", plain).split() or re.sub(r"[\[\]()]", " ", name.lower()).split()
    if any(WAVELENGTH_WORDS.search(word) for word in words):
        return "wavelength"
    joined = "".join(words)
    return next(
        (kind for kind, known in CHANNEL_WORDS.items() if joined in known or any(word in known for word in words)), None
    )


def _is_camspec(names: list[str] | None, rows: list[list[str]]) -> bool:
    """Whether the rows are R, G and B as in the camspec database, below at most the camera's name."""
    return len(names or []) < 3 and len(rows) == 3 and all(len(row) == len(CAMSPEC_NM) for row in rows)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.lower().lstrip("+-") not in ("nan", "inf", "infinity")


def _number(cell: str) -> float:
    """Returns the number of a cell; NaN for an empty one, infinity for "nan", which is refused."""
    if not cell:
        return float("nan")
    value = float(cell.removesuffix("%").removesuffix("nm"))
    return float("inf") if np.isnan(value) else value
