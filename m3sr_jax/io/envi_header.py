"""The text header of ENVI files: its fields, and what they declare about the numbers.

Source: the published description of the ENVI header format (L3Harris Geospatial, "ENVI Header Files").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Coding, unit_divisor
from m3sr_jax.io.files import reading
from m3sr_jax.io.wavelengths import MAX_BANDS, named_centres

# fmt: off
DATA_TYPES = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4", "14": "i8", "15": "u8"}
# fmt: on
COMPLEX_TYPES = {"6": "complex64", "9": "complex128"}
INTERLEAVES = ("bsq", "bil", "bip")
MAX_HEADER_BYTES = 2**24  # 4096 bands with long names take under a megabyte
_WINDOWS_NAN = re.compile(r"^[-+]?1\.#.*")  # -1.#IND, as Visual C++ writes it
# Fields that would change which bytes are numbers of the cube, with the values that change nothing.
UNSUPPORTED = {"major frame offsets": "0", "minor frame offsets": "0", "read procedures": "", "classes": "0"}
_OTHER_SCALES = re.compile(r".*(scale|scaling)( factors?)?|.*multipliers?|correction factors")


@dataclass(frozen=True)
class Header:
    """The fields of an ENVI header, by lower-case name.

    Attributes:
        path: the header file.
        fields: name → text; lists without their outer braces.
    """

    path: Path
    fields: dict[str, str]

    def word(self, field: str, default: str = "") -> str:
        """Returns a field's text without comments, which begin with a semicolon."""
        return _without_comments(self.fields.get(field, default)) or default

    def integer(self, field: str, low: int = 0, default: str | None = None) -> int:
        """Returns a whole number; text after a semicolon is a comment.

        Raises:
            InputError: the field is missing without a default, or its value is not a whole number of at least `low`.
        """
        text = self.fields.get(field, default)
        value = _without_comments("" if text is None else text)
        if not re.fullmatch(r"\d{1,9}", value) or int(value) < low:
            expected = f"expected a whole number of at least {low}"
            raise InputError(f"{self.path}: found {field} = {text or '(none)'}; {expected}")
        return int(value)

    def numbers(self, field: str, count: int | None = None) -> list[float]:
        """Returns a list of numbers, separated by commas or blanks; empty if the field is missing or empty.

        Raises:
            InputError: an entry is not a number, or there are not `count` of them.
        """
        parts = re.split(r"[,\s]+", self.word(field).strip("{}, \t\n"), maxsplit=MAX_BANDS)
        try:
            found = [float(_WINDOWS_NAN.sub("nan", part)) for part in parts if part]
        except ValueError as error:
            raise InputError(
                f"{self.path}: found a list that is not numeric for {field} ({error}); expected numbers and commas"
            ) from error
        if count is not None and found and len(found) != count:
            raise InputError(f"{self.path}: found {len(found)} numbers for {field}; expected one per band, {count}")
        return found

    def dtype(self) -> tuple[np.dtype, str]:
        """Returns the type of the stored numbers and their interleave.

        Raises:
            InputError: either is missing, unknown or complex, or the byte order is neither 0 nor 1.
        """
        code, interleave = self.word("data type"), self.word("interleave").lower()
        if code not in DATA_TYPES or interleave not in INTERLEAVES:
            complex_type = f" ({COMPLEX_TYPES[code]})" if code in COMPLEX_TYPES else ""
            found = f"data type {code or '(none)'}{complex_type} and interleave {interleave or '(none)'}"
            expected = f"one of {', '.join(DATA_TYPES)} and bsq, bil or bip"
            raise InputError(f"{self.path}: found {found}; expected {expected}")
        order = self.word("byte order", "0")
        if order not in ("0", "1"):
            raise InputError(f"{self.path}: found byte order = {order}; expected 0 (little-endian) or 1 (big-endian)")
        return np.dtype("<>"[int(order)] + DATA_TYPES[code]), interleave

    def wavelengths(self, bands: int) -> tuple[np.ndarray | None, str, list[str]]:
        """Returns the bands' wavelengths as stored (None if there are none), their unit, and notes."""
        name = next((name for name in ("wavelength", "wavelengths") if self.fields.get(name, "").strip("{} ,\n")), None)
        if name is not None:
            return np.array(self.numbers(name, bands)), self.word("wavelength units"), []
        names = [part.strip() for part in self.fields.get("band names", "").strip("{}").split(",")]
        named = named_centres(names) if len(names) == bands else None
        return (None, "", []) if named is None else (named[0], named[1], [named[2]])

    def good_bands(self, bands: int) -> np.ndarray | None:
        """Returns which bands `bbl` marks as usable (1) or bad (0); None if there is no such list."""
        flags = np.array(self.numbers("bbl", bands))
        if not np.isin(flags, (0, 1)).all():
            raise InputError(f"{self.path}: found bbl = {flags.min():g} to {flags.max():g}; expected 0 or 1 per band")
        return flags == 1 if len(flags) else None

    def coding(self, bands: int) -> tuple[Coding, list[str]]:
        """Returns the meaning of the stored numbers, and notes on what was applied."""
        notes, gain, offset = [], (1.0,), (0.0,)
        for kind in ("data reflectance", "data"):  # where both are given, reflectance is what a cube holds
            gains, offsets = self.numbers(f"{kind} gain values", bands), self.numbers(f"{kind} offset values", bands)
            if set(gains) <= {1.0} and set(offsets) <= {0.0}:
                continue
            gain, offset = tuple(gains or [1.0]), tuple(offsets or [0.0])
            if not np.isfinite([*gain, *offset]).all() or 0 in gain:
                raise InputError(f"{self.path}: found {kind} gain or offset values that are 0 or not finite")
            notes.append(f"{kind} gain and offset values applied")
            if kind != "data" and self.word("data gain values"):
                notes.append("data gain values not applied: they give radiance")
            break
        divisor = self._single("reflectance scale factor")
        if divisor is not None and not 0 < divisor < math.inf:
            raise InputError(f"{self.path}: found reflectance scale factor = {divisor:g}; expected a number above 0")
        if divisor not in (None, 1.0) and notes:
            raise InputError(
                f"{self.path}: found both reflectance scale factor and {notes[0].removesuffix(' applied')}; "
                "expected one way to scale: delete the other from the header"
            )
        if by_unit := unit_divisor(units := self.word("data units")):
            divisor, notes = by_unit * (divisor or 1.0), [*notes, f"values in {units}, divided by {by_unit:g}"]
        ignored = self._single("data ignore value")
        if ignored is not None:
            notes.append(f"data ignore value = {ignored:g}: missing")
        missing = () if ignored is None else (ignored,)
        source = "" if ignored is None else f"data ignore value = {ignored:g}"
        return Coding(missing, gain=gain, offset=offset, divisor=divisor, source=source), notes

    def _single(self, field: str) -> float | None:
        found = self.numbers(field)
        if len(found) > 1:
            raise InputError(f"{self.path}: found {len(found)} numbers for {field}; expected one")
        return found[0] if found else None

    def check_kind(self) -> None:
        """Refuses files that hold no cube, or numbers in an order that only their maker's software knows.

        Raises:
            InputError: by the name of the field that says so.
        """
        kind = self.word("file type", "ENVI Standard")
        if not re.fullmatch(r"(envi\s*)?(standard)?(\s*file)?|tiff.*", kind.lower()):
            raise InputError(f"{self.path}: found file type = {kind}; expected ENVI Standard, a cube of numbers")
        for field, harmless in UNSUPPORTED.items():
            if set(re.split(r"[,\s{}]+", self.word(field))) - {"", harmless}:
                raise InputError(f"{self.path}: found {field} = {self.fields[field]}, which cannot be read")
        others = [name for name in self.fields if _OTHER_SCALES.fullmatch(name) and name != "reflectance scale factor"]
        for field in others:
            found = f"{field} = {self.word(field)[:40]}"
            raise InputError(f"{self.path}: found {found}; expected reflectance scale factor or gain values")

    @property
    def of_tiff(self) -> bool:
        """Whether the header describes a TIFF file beside it."""
        return self.word("file type").lower().startswith("tiff")

    @property
    def compressed(self) -> bool:
        """Whether the data file is compressed with gzip.

        Raises:
            InputError: the field is neither 0 nor 1.
        """
        value = self.word("file compression", "0")
        if value not in ("0", "1"):
            raise InputError(f"{self.path}: found file compression = {value}; expected 0 or 1 (gzip)")
        return value == "1"


def read_header(path: Path) -> Header:
    """Reads a header: names in any case, UTF-8 with or without a byte-order mark or Latin-1, any line ends.

    Raises:
        InputError: the file is missing or no ENVI header, or a list is not closed.
    """
    with reading(path, "an ENVI header"), path.open("rb") as file:
        content = file.read(MAX_HEADER_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if not text.lstrip().startswith("ENVI"):
        esri = re.search(r"^\s*(NROWS|LAYOUT|NBANDS)\b", text[:4096], re.IGNORECASE | re.MULTILINE)
        found = "an ESRI header; convert it with gdal_translate -of ENVI" if esri else 'expected the first line "ENVI"'
        raise InputError(f"{path}: not an ENVI header; {found}")
    return Header(path, _fields(path, text))


def _without_comments(text: str) -> str:
    return "\n".join(line.partition(";")[0] for line in text.splitlines()).strip()


def _fields(path: Path, text: str) -> dict[str, str]:
    fields, lines = {}, iter(text.splitlines())
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or name.lstrip().startswith(";"):
            continue
        if value.lstrip().startswith("{"):  # a list ends at its closing brace, maybe lines below
            parts = [value]
            while "}" not in parts[-1]:
                following = next(lines, None)
                if following is None:
                    raise InputError(f"{path}: the list of {name.strip()} is not closed; expected }} at its end")
                parts.append(following)
            value = "\n".join(parts).partition("}")[0] + "}"
        fields[" ".join(name.lower().split())] = value.strip()
    return fields
