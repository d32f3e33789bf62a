"""Arrays of a file, listed before any is read, and the choice of a cube and its wavelengths among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError, shortened
from m3sr_jax.io.wavelengths import BANDS

NUMBER_KINDS = "fiu"
KINDS = {"V": "structured values", "b": "logical values", "U": "text", "S": "text", "O": "no numbers"}
# Last parts of names, lower-case and without punctuation, that hold wavelengths; the first that fits is taken.
WAVELENGTH_NAMES = (
    *("wavelengths", "wavelength", "bands", "wavelengthsnm", "wavelengthnm", "wavelengthsum", "wavelengthum"),
    *("wl", "wls", "lambda", "lambdas", "wave", "waves", "nm", "centers", "centres", "centerwavelength"),
    *("centerwavelengths", "centralwavelength", "centralwavelengths", "bandcenters", "bandcentres", "wvl", "wv"),
    *("band", "lam"),
)
MOST_LISTED = 12
OBJECT = np.dtype(object)


@dataclass(frozen=True)
class Entry:
    """An array of a file that is not yet read.

    Attributes:
        name: members of groups and structs have theirs in front: `group/name`, `struct.name`.
        shape: with the axes that its software shows.
        dtype: the type of its values.
        read: returns the values.
        check: refuses an array that claims more than the file holds; `read` does so too.
        attributes: what the file says about it, by name.
        kind: what it is, if it is no array of numbers: "a cell array".
        alias: whether it is another name of an array that is listed too.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    check: Callable[[], None] = lambda: None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    alias: bool = False

    @property
    def numeric(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype.kind in NUMBER_KINDS

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=np.float64))

    @property
    def label(self) -> str:
        """Name, shape and kind, for messages."""
        size = "×".join(map(str, self.shape))
        return f"{self.name} ({', '.join(part for part in (size, '' if self.numeric else self.content) if part)})"

    @property
    def content(self) -> str:
        """What it holds, for messages."""
        return self.kind or KINDS.get(self.dtype.kind, f"{self.dtype} values")

    @property
    def group(self) -> list[str]:
        """The names of the groups or structs that hold it."""
        return re.split(r"[/.]", self.name)[:-1]

    @property
    def listed_name(self) -> str:
        """The last part of the name, lower-case and without punctuation."""
        return re.sub(r"[^a-z0-9]", "", re.split(r"[/.]", self.name)[-1].lower())


def unreadable(name: str, kind: str, shape: tuple[int, ...] = ()) -> Entry:
    """Returns an entry that messages can name, and that cannot be read, such as "a cell array"."""

    def read() -> np.ndarray:
        raise ValueError(f"{name} holds {kind}")

    return Entry(name, shape, OBJECT, read, kind=kind)


def choose_cube(path: Path, entries: Mapping[str, Entry], key: str | None) -> tuple[Entry, list[str]]:
    """Chooses the array that holds the cube, and notes the choice.

    Args:
        path: the file, for messages.
        entries: its arrays.
        key: the name that the user gives; a last part that only one array has suffices. None: the array `cube`, else
            the only one with three axes of real numbers, else the only one of these with an axis as long as the
            file's list of wavelengths.

    Raises:
        InputError: no array, or several, can be meant.
    """
    if key is not None:
        return _named(path, entries, key), []
    if "cube" in entries:
        return _real(path, entries["cube"]), []
    numbers = [entry for entry in entries.values() if (entry.numeric or entry.dtype.kind in "cV") and not entry.alias]
    candidates = [entry for entry in numbers if len(entry.shape) == 3 and min(entry.shape) > 0]
    lists = {entry.size for entry in entries.values() if is_list(entry) and entry.listed_name in WAVELENGTH_NAMES}
    lists -= {1}  # a number of bands
    for wanted in (lists, {len(BANDS)}):
        if len(candidates) > 1 and wanted:
            candidates = [entry for entry in candidates if wanted & set(entry.shape)] or candidates
    if len(candidates) == 1:
        return _real(path, candidates[0]), [f"array {candidates[0].name}"]
    names = sorted(entry.label for entry in entries.values() if entry.numeric)
    others = sorted(entry.label for entry in entries.values() if not entry.numeric)
    none = f"no numeric arrays but {shortened(others, MOST_LISTED)}" if others else "no numeric arrays"
    found = f"numeric arrays {shortened(names, MOST_LISTED)}" if names else none
    hint = "; choose one with --key NAME" if names else ""
    raise InputError(f"{path}: found {found}; expected one named cube{hint}")


def _named(path: Path, entries: Mapping[str, Entry], key: str) -> Entry:
    plain = {name: name.replace("/", ".") for name in entries}
    wanted = key.strip("/").replace("/", ".")
    exact = [name for name in entries if name == key or plain[name] == wanted]
    tails = [name for name in entries if plain[name].endswith(f".{wanted}")]
    found = exact[:1] or tails
    if len(found) == 1:
        return _real(path, entries[found[0]])
    names = sorted(entry.label for name, entry in entries.items() if not tails or name in tails)
    problem = "several arrays" if tails else "no array"
    expected = f"expected one of {shortened(names, MOST_LISTED) or '(none)'}"
    raise InputError(f"{path}: found {problem} called {key}; {expected}")


def _real(path: Path, entry: Entry) -> Entry:
    if not entry.numeric:
        raise InputError(f"{path}: {entry.name} holds {entry.content}; expected real numbers")
    return entry


def choose_wavelengths(entries: Mapping[str, Entry], cube: Entry) -> Entry | None:
    """Chooses the list of the cube's wavelengths: by name, in the same group first, with the length of an axis.

    Returns:
        The list; where none has the length of an axis, the best by name; None if none has such a name.
    """
    found = [
        entry
        for entry in entries.values()
        if entry.name != cube.name and is_list(entry) and entry.listed_name in WAVELENGTH_NAMES
    ]
    found.sort(
        key=lambda entry: (
            entry.size not in cube.shape,
            entry.group != cube.group,
            WAVELENGTH_NAMES.index(entry.listed_name),
        )
    )
    return found[0] if found else None


def is_list(entry: Entry) -> bool:
    """Whether an array is one number after the other, at most as many as a cube has bands, or too many to tell."""
    return entry.numeric and 0 < entry.size == max(entry.shape, default=1)


def bands_axis(cube: Entry, wavelengths: Entry | None) -> int | None:
    """Returns the axis that NetCDF-4's dimension numbers give to the wavelengths; None if the file has none."""
    if wavelengths is None:
        return None
    axes = np.ravel(cube.attributes.get("_Netcdf4Coordinates", ()))
    own = np.ravel(wavelengths.attributes.get("_Netcdf4Coordinates", wavelengths.attributes.get("_Netcdf4Dimid", ())))
    fitting = np.flatnonzero(axes == own[0]) if len(own) == 1 and len(axes) == len(cube.shape) else ()
    return int(fitting[0]) if len(fitting) == 1 else None
