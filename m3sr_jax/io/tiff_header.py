"""ENVI headers beside a TIFF, of file type TIFF or without data of their own."""

from __future__ import annotations

from pathlib import Path

from m3sr_jax.errors import InputError
from m3sr_jax.io import envi
from m3sr_jax.io.declared import Stored, combined
from m3sr_jax.io.envi_header import read_header

TIFF_SUFFIXES = (".tif", ".tiff")


def described_tiff(header: Path) -> Path | None:
    """Returns the TIFF that an ENVI header describes; None if it describes raw numbers.

    Raises:
        InputError: there is no such TIFF beside it.
    """
    if not header.is_file() or not read_header(header).of_tiff:
        return None
    found = envi.data_files(header, TIFF_SUFFIXES)
    if not found:
        raise InputError(f"{header}: file type = TIFF, but there is no {header.stem} with .tif beside it")
    return found[0]


def with_header(path: Path, stored: Stored) -> Stored:
    """Adds what an ENVI header beside a TIFF declares, if it describes the TIFF.

    Raises:
        InputError: the header is of other bands, or it contradicts the TIFF.
    """
    beside = envi.find_header(path)
    if beside is None:
        return stored
    header = read_header(beside)
    if not header.of_tiff and envi.data_files(beside, envi.DATA_SUFFIXES):
        return stored
    axis = stored.bands_axis or 0
    bands = stored.values.shape[axis] if stored.values.ndim == 3 else 0
    if header.integer("bands", low=1) != bands:
        raise InputError(f"{beside}: found {header.integer('bands')} bands; expected {bands} as in {path.name}")
    centres, units, notes = header.wavelengths(bands)
    coding, applied = header.coding(bands)
    stored.coding = combined(path, stored.coding, coding)
    good = header.good_bands(bands)
    if good is not None:
        stored.good = good if stored.good is None else stored.good & good
    if centres is not None:
        stored.centres, stored.units = centres, units
        notes = [*notes, f"wavelengths from {beside.name}"]
    stored.notes += [*applied, *notes]
    return stored
