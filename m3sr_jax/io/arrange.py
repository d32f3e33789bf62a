"""Arranges a stored cube: bands on the last axis, in rising order, without those that the file marks as bad."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Coding, Stored
from m3sr_jax.io.wavelengths import BANDS, BANDS_BY_HAND, check_wavelengths, nanometres, parse_wavelengths


@dataclass(frozen=True)
class Arranged:
    """A cube of stored numbers, (H, W, S), what they mean, its wavelengths in nm if it has some, and notes."""

    values: np.ndarray
    coding: Coding
    wavelengths: Float64[np.ndarray, " S"] | None
    notes: list[str]


def arrange(path: Path, stored: Stored, wavelengths: str | None = None) -> Arranged:
    """Brings a stored cube in the product's order.

    Args:
        path: the file, for messages.
        stored: the cube.
        wavelengths: what the user gives in place of the file's, see `parse_wavelengths`.

    Raises:
        InputError: the numbers are no cube, no axis fits the wavelengths, or these are not plausible or not distinct.
    """
    values, notes = stored.values, list(stored.notes)
    if values.ndim != 3 or not values.size or values.dtype.kind not in "fiu":
        raise InputError(f"{path}: found {values.dtype} values of shape {values.shape}; expected numbers on 3 axes")
    if wavelengths is not None:
        centres, note = parse_wavelengths(wavelengths)
    elif stored.centres is not None:
        centres, note = _file_centres(path, stored)
    else:
        centres, note = None, ""
    notes += [note] if note else []
    axis = _bands_axis(path, stored, centres, notes)
    values = np.moveaxis(values, axis, -1)
    if centres is None and values.shape[-1] == len(BANDS):
        centres = BANDS
        notes.append("no wavelengths: taken for 400-700 nm, as 31 bands usually are")
    return _ordered(path, Arranged(values, stored.coding, centres, notes), stored.good)


def _file_centres(path: Path, stored: Stored) -> tuple[np.ndarray | None, str]:
    """Returns the file's wavelengths in nm, or None where it merely counts its bands, and a note."""
    assert stored.centres is not None
    centres = np.ravel(stored.centres)
    if centres.size == 1 and centres[0] in stored.values.shape and 1 not in stored.values.shape:
        return None, f"{centres[0]:g} is the number of bands, not a wavelength"
    return nanometres(centres, stored.units, path)


def _bands_axis(path: Path, stored: Stored, centres: np.ndarray | None, notes: list[str]) -> int:
    """Returns the axis of the bands: the file's, else one with an entry per wavelength, the last such first.

    Without wavelengths it is the axis that the file states; else one of 31; else the file's usual one; else the last,
    or the first if it is far shorter than the others.
    """
    shape, known = stored.values.shape, stored.bands_axis
    first = () if known is None else (known,)
    count = len(BANDS) if centres is None else len(centres)
    possible = first if first and stored.axis_stated else (*first, 2, 0, 1)
    fitting = [axis for axis in possible if shape[axis] == count]
    if fitting and known is None and len(fitting) > 1:
        chosen = ("first", "second", "last")[fitting[0]]
        notes.append(f"{len(fitting)} axes of {count}: the {chosen} taken for the bands")
    if fitting:
        return fitting[0]
    if centres is not None:
        raise InputError(
            f"{path}: found a cube of shape {shape}; expected an axis of {count} bands (one per wavelength)"
        )
    if known is not None:
        return known
    axis = 0 if 2 * shape[0] <= min(shape[1:]) else 2
    notes.append(f"the {'first' if axis == 0 else 'last'} axis, of {shape[axis]}, taken for the bands")
    return axis


def _ordered(path: Path, cube: Arranged, good: np.ndarray | None) -> Arranged:
    """Leaves out bad bands and sorts the rest by wavelength."""
    count, notes = cube.values.shape[-1], list(cube.notes)
    kept = np.arange(count)
    if good is not None and not good.all():
        if not good.any():
            raise InputError(f"{path}: all {count} bands are marked as bad (bbl); expected a usable one")
        kept = np.flatnonzero(good)
        notes.append(f"{count - len(kept)} of {count} bands left out: the file marks them as bad (bbl)")
    wavelengths = cube.wavelengths
    if wavelengths is not None:
        order = np.argsort(wavelengths[kept], kind="stable")
        if (np.diff(order) < 0).any():
            notes.append("bands sorted by wavelength")
        kept = kept[order]
        wavelengths = wavelengths[kept]
        if (same := np.flatnonzero(np.diff(wavelengths) == 0)).size:
            twice = f"two bands are at {wavelengths[same[0]]:g} nm"
            raise InputError(f"{path}: {twice}; expected distinct ones: {BANDS_BY_HAND}")
        check_wavelengths(wavelengths, path)
    if np.array_equal(kept, np.arange(count)):
        return replace(cube, wavelengths=wavelengths, notes=notes)
    coding = cube.coding
    gain, offset = (tuple(np.array(part)[kept]) if len(part) > 1 else part for part in (coding.gain, coding.offset))
    return Arranged(cube.values[..., kept], replace(coding, gain=gain, offset=offset), wavelengths, notes)
