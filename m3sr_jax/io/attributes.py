"""What the attributes of an HDF5 or NetCDF-4 array declare about its numbers.

Source: NetCDF Climate and Forecast (CF) Metadata Conventions, sections 2.5.1 and 8.1; NetCDF Users Guide, appendix A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Coding, listed, unit_divisor

# Names without case and punctuation that scale by no known convention. `calibrated_nt` is HDF4's, where the offset is
# subtracted before the scale is applied.
OTHER_SCALES = re.compile(
    r".*scal(e|ing).*|.*mult(iplier)?|factors?|slope|intercept|gains?|offsets?|bias|quantificationvalue|calibratednt"
)
MISSING_NAMES = ("fillvalue", "missingvalue", "dataignorevalue", "nodata", "nodatavalue", "ignorevalue")


def coding_of_attributes(
    path: Path, name: str, dtype: np.dtype, attributes: Mapping[str, Any]
) -> tuple[Coding, list[str]]:
    """Returns the meaning of an array's numbers by its attributes, and notes on what was applied.

    `scale_factor` multiplies and `add_offset` is added (CF). Other spellings of a scale factor divide where they are
    above 1, as NEON's `Scale_Factor` = 10000 does. `_FillValue`, `missing_value`, NEON's `Data_Ignore_Value` and
    whatever lies outside `valid_min`, `valid_max` or `valid_range` are missing. Units of percent divide by 100.

    Args:
        path: the file, for messages.
        name: the array's name, for messages.
        dtype: the type of the stored numbers.
        attributes: by name.

    Raises:
        InputError: one of these is not a number, or cannot be applied.
    """
    declared = _Declared(path, name, attributes)
    if str(declared.text("unsigned")).lower() in ("true", "1"):
        raise InputError(f"{path}: {name} has _Unsigned = true, which cannot be applied; store unsigned integers")
    declared.refuse_other_scales()
    gain, offset, divisor, notes = _scaling(declared)
    missing = tuple(dict.fromkeys(value for key in MISSING_NAMES for value in declared.numbers(key)))
    valid = _valid(declared, dtype, (gain, offset, divisor or 1.0))
    marks = [f"{declared.spelled(key)} = {listed(declared.numbers(key))}" for key in MISSING_NAMES if key in declared]
    low, high = valid
    marks += [f"anything below {low:g}"] if low > -math.inf else []
    marks += [f"anything above {high:g}"] if high < math.inf else []
    source = " and ".join(marks)
    notes += [f"{source}: missing"] if marks else []
    return Coding(missing, valid, (gain,), (offset,), divisor, source), notes


def _scaling(declared: _Declared) -> tuple[float, float, float | None, list[str]]:
    """Returns gain, offset and divisor, and notes."""
    gain, offset, divisor, notes = 1.0, 0.0, None, []
    if "scalefactor" in declared:
        scale, spelled = declared.number("scalefactor"), declared.spelled("scalefactor")
        if scale <= 0:
            raise InputError(f"{declared.path}: {declared.name} has {spelled} = {scale:g}; expected a number above 0")
        if spelled != "scale_factor" and scale > 1:
            divisor = scale
        else:
            gain = scale
        notes.append(f"{'divided' if divisor else 'multiplied'} by {spelled} = {scale:g}")
    if "addoffset" in declared:
        offset = declared.number("addoffset")
        if divisor:
            raise InputError(f"{declared.path}: {declared.name} has {declared.spelled('addoffset')} beside a divisor")
        notes.append(f"{declared.spelled('addoffset')} = {offset:g} added")
    units = declared.text("units") or declared.text("unit")
    if by_unit := unit_divisor(units):
        divisor = (divisor or 1.0) * by_unit
        notes.append(f"values in {units}, divided by {by_unit:g}")
    # A scale of 1 is a scale too: the numbers are the values.
    return gain, offset, 1.0 if notes and divisor is None else divisor, notes


def _valid(declared: _Declared, dtype: np.dtype, scaling: tuple[float, float, float]) -> tuple[float, float]:
    """Returns the lowest and highest stored number that is a value.

    The bounds of packed integers are in packed numbers, unless they are floating point, as the values are.
    """
    low, high = -math.inf, math.inf
    if "validrange" in declared:
        bounds = declared.numbers("validrange")
        if len(bounds) != 2:
            raise InputError(f"{declared.path}: {declared.name} has a valid_range of {len(bounds)} numbers; expected 2")
        low, high = bounds
    low = declared.number("validmin") if "validmin" in declared else low
    high = declared.number("validmax") if "validmax" in declared else high
    kinds = {declared.kind(key) for key in ("validrange", "validmin", "validmax") if key in declared}
    if dtype.kind in "iu" and "f" in kinds and scaling != (1.0, 0.0, 1.0):
        gain, offset, divisor = scaling
        low, high = ((bound * divisor - offset) / gain for bound in (low, high))
    return low, high


class _Declared:
    """An array's attributes, found by their names without case and punctuation."""

    def __init__(self, path: Path, name: str, attributes: Mapping[str, Any]) -> None:
        self.path, self.name = path, name
        self._found = {re.sub(r"[^a-z]", "", key.lower()): (key, value) for key, value in attributes.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def refuse_other_scales(self) -> None:
        """Refuses attributes that scale by no known convention, unless they are 0 or 1 and change nothing."""
        for key in self._found:
            other = OTHER_SCALES.fullmatch(key) and key != "scalefactor"
            if other and self.kind(key) in "fiu" and not set(self.numbers(key)) <= {0.0, 1.0}:
                shown = f"{self.spelled(key)} = {self.numbers(key)[0]:g}"
                reason = "which follows no known convention; expected scale_factor and add_offset"
                raise InputError(f"{self.path}: {self.name} has {shown}, {reason}")

    def spelled(self, key: str) -> str:
        return self._found[key][0]

    def kind(self, key: str) -> str:
        return np.asarray(self._found[key][1]).dtype.kind

    def text(self, key: str) -> str:
        return str(self._found.get(key, ("", ""))[1]).strip()

    def numbers(self, key: str) -> tuple[float, ...]:
        """Returns the numbers of an attribute; none if it is not there."""
        if key not in self:
            return ()
        spelled, value = self._found[key]
        try:
            numbers = tuple(float(number) for number in np.ravel(value))
        except (TypeError, ValueError):
            numbers = ()
        if not numbers or (key not in MISSING_NAMES and not np.isfinite(numbers).all()):
            raise InputError(f"{self.path}: {self.name} has {spelled} = {str(value)[:40]}; expected finite numbers")
        return numbers

    def number(self, key: str) -> float:
        """Returns the only number of an attribute."""
        numbers = self.numbers(key)
        if len(numbers) != 1:
            count = f"{self.spelled(key)} of {len(numbers)} numbers"
            raise InputError(f"{self.path}: {self.name} has a {count}; expected one")
        return numbers[0]
