"""Band centres: the usual ones, their units, which lists are plausible, and when two lists mean the same bands."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

# The field's 31 bands in nm: assumed for a file of 31 bands without wavelengths.
BANDS = np.arange(400.0, 701.0, 10.0)
PLAUSIBLE_NM = (100, 20_000)
SAME_BAND_NM = 0.5
MAX_BANDS = 4096
BANDS_BY_HAND = "give them with --wavelengths START:STOP:STEP in nm"
_LEAST_NM = 200  # names of bands that are numbers below this count the bands, unless they are micrometres below 2
MICROMETRES_BELOW = 100  # wavelengths of unknown unit below this are in micrometres

# Spellings, lower-case, whole or at the beginning of a word; the first that fits decides.
_REFUSED = re.compile(r"wave\s*-?numb|hz$|ev$|cm\s*\^?[-−]\s*1|cm⁻¹|1\s*/\s*cm|inverse|recipr|frequen")
_UNITS = (
    (re.compile(r"nm|nan[oó]"), 1.0),
    (re.compile(r"[µμ]|um|mu|micro|micron"), 1e3),
    (re.compile(r"[å]|ang|a$"), 0.1),
    (re.compile(r"mm|milli"), 1e6),
    (re.compile(r"cm|centi"), 1e7),
    (re.compile(r"m$|met(er|re)s?$"), 1e9),
)
_NO_WAVELENGTHS = re.compile(r"index|bands?$|band.?num|number|channel")
# A number followed by its unit, as band names contain: "R = 550.0 nm", "Band 3 (0.55 Micrometers)".
_NAMED = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet(?:er|re)s?|[µμu]m|micromet(?:er|re)s?|microns?)\b", re.IGNORECASE)


def nanometres(
    centres: Float[np.ndarray, " S"], units: str, source: object
) -> tuple[Float64[np.ndarray, " S"] | None, str]:
    """Converts band centres to nm.

    Args:
        centres: as the file has them.
        units: as the file spells it: any spelling of nm, µm, Å, mm, cm or m. Where it says nothing, or nothing known,
            the size decides: below 100 they are micrometres, else nanometres.
        source: the file, for the message.

    Returns:
        Centres in nm, or None if they are numbers of bands, not wavelengths; and a note on what was guessed, or "".

    Raises:
        InputError: the unit is known and is no unit of length.
    """
    centres = np.asarray(centres, np.float64).ravel()
    spelled = units.strip().strip("()[]{}\"'").strip().lower()
    if _REFUSED.search(spelled):
        raise InputError(f"{source}: found wavelength units = {spelled}; expected Nanometers or Micrometers")
    if _NO_WAVELENGTHS.match(spelled):
        return None, f"wavelength units = {units.strip()}: numbers of bands, not wavelengths"
    factor = next((factor for pattern, factor in _UNITS if pattern.match(spelled)), None)
    if factor is not None:
        return centres * factor, ""
    if numbers_of_bands(centres):
        return None, f"wavelengths {centres[0]:g} to {centres[-1]:g} are numbers of bands"
    largest = np.abs(centres[np.isfinite(centres)]).max(initial=0)
    factor, name = (1e3, "micrometres") if largest < MICROMETRES_BELOW else (1.0, "nanometres")
    unknown = f"wavelength units = {units.strip()[:40]}" if spelled else "wavelengths without a unit"
    return centres * factor, f"{unknown}: taken for {name}, by their size"


def unit_of_light(units: str) -> bool:
    """Tells whether a unit, as a file spells it, is nm, µm or Å, which nothing but a wavelength has beside a cube."""
    return re.fullmatch(r"nm|nano\w+|[µμu]m|micro\w*|å|ang\w*", units.strip().lower()) is not None


def numbers_of_bands(centres: Float[np.ndarray, " S"]) -> bool:
    """Tells whether a list merely counts: 0, 1, 2, … or 1, 2, 3, …; one number alone does not."""
    count = np.arange(len(centres), dtype=np.float64)
    return len(centres) > 1 and any(np.array_equal(centres, count + first) for first in (0, 1))


def named_centres(names: list[str]) -> tuple[Float64[np.ndarray, " S"], str, str] | None:
    """Returns the wavelengths that the bands' names are or contain, their unit and a note; None if a name has none."""
    if names and all(re.fullmatch(r"\s*\d{1,5}(\.\d+)?\s*", name) for name in names):
        centres = np.array([float(name) for name in names])
        in_nm, in_um = centres.min() >= _LEAST_NM, "." in "".join(names) and centres.max() < _LEAST_NM / 100
        return (centres, "", "wavelengths from the names of the bands") if in_nm or in_um else None
    found = [_NAMED.search(name) for name in names]
    if not names or not all(found):
        return None
    factors = [1.0 if match[2].lower().startswith("n") else 1e3 for match in found if match]
    centres = [float(match[1]) * factor for match, factor in zip(found, factors, strict=True) if match]
    return np.array(centres), "nm", "wavelengths from the names of the bands"


def parse_wavelengths(text: str) -> tuple[Float64[np.ndarray, " S"], str]:
    """Reads what a user gives for wavelengths.

    Args:
        text: "START:STOP:STEP", inclusive; numbers separated by commas; or a file of numbers, one a line or separated
            by commas, of whose tables the first column counts. Micrometres are recognised by their size.

    Returns:
        Centres in nm in the order given, and a note on what was guessed, or "".

    Raises:
        InputError: it is none of these, or the file cannot be read.
    """
    what = f"wavelengths {text}"
    if ":" in text and not Path(text).is_file():
        centres = _range(text, what)
    elif re.fullmatch(r"[\d.,\s]+", text):
        centres = _floats(re.split(r"[,\s]+", text.strip(" ,")), what)
    else:
        centres = _from_file(Path(text))
    if not 0 < len(centres) <= MAX_BANDS:
        raise InputError(f"{what}: found {len(centres)} numbers; expected 1 to {MAX_BANDS}")
    small = centres.max() < MICROMETRES_BELOW
    centres = centres * 1e3 if small else centres
    check_wavelengths(np.sort(centres), what)
    return centres, f"{what}: taken for micrometres, by their size" if small else ""


def _range(text: str, what: str) -> Float64[np.ndarray, " S"]:
    parts = _floats(text.split(":"), what)
    if len(parts) != 3 or parts[2] == 0 or (parts[1] - parts[0]) / parts[2] < 0:
        raise InputError(f"{what}: expected START:STOP:STEP, such as 400:700:10")
    start, stop, step = (float(part) for part in parts)
    steps = (stop - start) / step
    if steps > MAX_BANDS or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
        raise InputError(f"{what}: steps of {step:g} from {start:g} do not end at {stop:g}")
    return start + step * np.arange(round(steps) + 1)


def _floats(parts: list[str], what: str) -> Float64[np.ndarray, " S"]:
    try:
        numbers = np.array([float(part) for part in parts], np.float64)
    except ValueError:
        numbers = np.array([math.nan])
    if not np.isfinite(numbers).all():
        raise InputError(f"{what}: expected START:STOP:STEP in nm, such as 400:700:10, or a file of numbers")
    return numbers


def _from_file(path: Path) -> Float64[np.ndarray, " S"]:
    if not path.is_file():
        raise InputError(f"wavelengths {path}: no such file; expected START:STOP:STEP, such as 400:700:10, or a file")
    with reading(path, "a list of wavelengths"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [re.split(r"[,;\s]+", line.strip().strip(",;")) for line in lines if line.strip(" ,;\t")]
        rows = [row for row in rows if not row[0].startswith("#")]
        while rows and not re.match(r"[-+.\d]", rows[0][0]):  # names of columns
            rows.pop(0)
        cells = rows[0] if len(rows) == 1 else [row[0] for row in rows]
        return _floats(cells, f"wavelengths {path}")


def check_wavelengths(wavelengths: Float[np.ndarray, " S"], source: object) -> None:
    """Refuses band centres that do not rise or cannot be in nm.

    Args:
        wavelengths: band centres, at least one.
        source: the file they come from, for the message.

    Raises:
        InputError: they do not rise, one is missing (NaN), or one lies outside `PLAUSIBLE_NM`.
    """
    low, high = PLAUSIBLE_NM
    if not (np.diff(wavelengths) > 0).all() or not low < wavelengths[0] <= wavelengths[-1] < high:
        expected = f"expected wavelengths in nm, rising, between {low} and {high}"
        raise InputError(f"{source}: found bands of {span(wavelengths)}; {expected}")


def same_bands(left: Float[np.ndarray, " S"], right: Float[np.ndarray, " T"]) -> bool:
    """Tells whether two lists name the same bands: equally many, with centres at most `SAME_BAND_NM` apart."""
    return len(left) == len(right) and bool((np.abs(left - right) <= SAME_BAND_NM).all())


def span(wavelengths: Float[np.ndarray, " S"]) -> str:
    """Formats the range of a list of bands, for messages: "400-700 nm"."""
    return f"{wavelengths[0]:g}-{wavelengths[-1]:g} nm"
