"""What a file declares about its numbers: which values are missing, and how stored numbers become values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.strips import strips

# A header rounds the value that it declares as missing to about seven digits.
SAME_VALUE = 1e-6


@dataclass(frozen=True)
class Coding:
    """The meaning of stored numbers: value = (stored·gain + offset) / divisor, and missing where it is marked so.

    Attributes:
        missing: stored numbers that mean "no value".
        valid: lowest and highest stored number; anything outside is missing.
        gain: one number, or one per band.
        offset: one number, or one per band.
        divisor: one number; None where the file declares nothing, and unsigned integers are divided by the largest
            number of their type.
        source: the declarations behind `missing` and `valid`, for messages.
    """

    missing: tuple[float, ...] = ()
    valid: tuple[float, float] = (-math.inf, math.inf)
    gain: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    divisor: float | None = None
    source: str = ""

    @property
    def scaled(self) -> bool:
        """Whether the file says how its numbers become values."""
        return self.divisor is not None or set(self.gain) != {1.0} or set(self.offset) != {0.0}

    def decode(self, stored: np.ndarray) -> Float32[np.ndarray, "H W S"]:
        """Computes the values of a cube of stored numbers (H, W, S); missing ones become NaN."""
        largest = np.iinfo(stored.dtype).max if stored.dtype.kind == "u" else 1
        divisor = self.divisor if self.scaled else largest
        with np.errstate(over="ignore", invalid="ignore"):  # overflow becomes infinity, which the caller refuses
            if set(self.gain) == {1.0} and set(self.offset) == {0.0} and divisor in (None, 1, largest):
                scale = np.float32(1 if divisor is None else divisor)
                values = np.divide(stored, scale, dtype=np.float32) if scale != 1 else stored
                values = np.ascontiguousarray(values, np.float32)
            else:
                values = self._scaled(stored, divisor or 1.0)
        if self.missing or self.valid != (-math.inf, math.inf):
            values = values if values is not stored and values.flags.owndata else values.copy()
            for rows in strips(stored.shape):
                values[rows][self._is_missing(stored[rows])] = np.nan
        return values

    def _scaled(self, stored: np.ndarray, divisor: float) -> np.ndarray:
        values = np.empty(stored.shape, np.float32)
        gain, offset = (np.asarray(numbers, np.float64) for numbers in (self.gain, self.offset))
        for rows in strips(stored.shape):
            values[rows] = (stored[rows].astype(np.float64) * gain + offset) / divisor
        return values

    def _is_missing(self, stored: np.ndarray) -> np.ndarray:
        low, high = self.valid
        found = np.zeros(stored.shape, bool)
        if low > -math.inf:
            found |= stored < low
        if high < math.inf:
            found |= stored > high
        for value in self.missing:
            if math.isnan(value):
                continue  # NaN is missing anyway
            if stored.dtype.kind == "f":
                found |= np.isclose(stored, value, rtol=SAME_VALUE, atol=0)
            elif value.is_integer() and np.iinfo(stored.dtype).min <= value <= np.iinfo(stored.dtype).max:
                found |= stored == int(value)
        return found


def unit_divisor(units: str) -> float | None:
    """Returns what a unit, as a file spells it, divides by: "%" by 100, "reflectance x 10000" by 10000; or None."""
    if re.search(r"(^|[\s(\[])(%|percent|pct\b)", units.lower()):
        return 100.0
    factor = re.search(r"[x×*]\s*(10{1,6}|1e\d)\s*$", units.lower())
    return float(factor[1]) if factor else None


def combined(path: Path, first: Coding, second: Coding) -> Coding:
    """Joins two declarations of one file, such as of a TIFF and its sidecar; a repetition changes nothing.

    Raises:
        InputError: they scale the numbers in different ways.
    """
    if first.scaled and second.scaled:
        (gain, offset), (other_gain, other_offset) = (
            (np.asarray(part.gain) / (part.divisor or 1.0), np.asarray(part.offset) / (part.divisor or 1.0))
            for part in (first, second)
        )
        if not (np.allclose(gain, other_gain, SAME_VALUE, 0) and np.allclose(offset, other_offset, SAME_VALUE, 0)):
            raise InputError(f"{path}: it, its header or its sidecar scale the numbers in two ways; expected one")
    added = tuple(value for value in second.missing if not np.isclose(value, first.missing, SAME_VALUE, 0, True).any())
    return replace(
        first if first.scaled else second,
        missing=first.missing + added,
        valid=first.valid,
        source=" and ".join(source for source in (first.source, second.source if added else "") if source),
    )


@dataclass
class Stored:
    """A cube as a file holds it.

    Attributes:
        values: numbers on three axes.
        coding: what they mean.
        bands_axis: the axis of the bands where the format tells it.
        centres: the bands' wavelengths as stored; None if the file has none.
        units: the unit of `centres` as the file spells it.
        good: which bands are usable, one flag per band; None if the file does not say.
        notes: what was chosen or guessed, in the words that the user reads.
        axis_stated: False if `bands_axis` is merely the usual one: pages of a TIFF may be rows.
    """

    values: np.ndarray
    coding: Coding = field(default_factory=Coding)
    bands_axis: int | None = None
    centres: np.ndarray | None = None
    units: str = ""
    good: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    axis_stated: bool = True


def listed(numbers: Sequence[float], most: int = 3) -> str:
    """Formats a few numbers for a note: "0.5, 0.7 …"."""
    return ", ".join(f"{number:g}" for number in numbers[:most]) + (" …" if len(numbers) > most else "")
