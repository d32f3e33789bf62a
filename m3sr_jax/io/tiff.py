"""TIFF cubes: one page per band, or bands as samples of a pixel, with wavelengths where a known tool wrote them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import Coding, Stored
from m3sr_jax.io.files import BoundedFile, band_rows, check_claim, reading, written_whole
from m3sr_jax.io.gdal_items import refuse_mask, sidecar_items, tag_items
from m3sr_jax.io.gdal_tags import apply_items
from m3sr_jax.io.ome import ome_channels

if TYPE_CHECKING:
    import tifffile

# Photometric interpretations whose numbers are amounts of light, one per sample.
LINEAR_PHOTOMETRICS = {"MINISBLACK": 1, "RGB": 2}
REFUSED_PHOTOMETRICS = {
    "MINISWHITE": "numbers count down from white",
    "PALETTE": "numbers are indices of colours",
    "MASK": "numbers are a mask",
    "CFA": "a raw photo, to be developed first",
}
REFUSED_TAGS = {291: "GrayResponseCurve", 301: "TransferFunction", 342: "TransferRange", 50706: "DNGVersion"}
ICC_PROFILE = 34675
SAMPLE_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floating point"}


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Opens a TIFF without following it to other files: kinds that may name some are read as plain pages."""
    import tifffile

    with (
        BoundedFile(path) as opened,
        tifffile.TiffFile(opened, is_ome=False, is_mmstack=False, is_ndtiff=False) as file,
    ):
        yield file


def read_tiff(path: Path, *, own_wavelengths: bool = True) -> Stored:
    """Reads all pages of a TIFF, and what GDAL's tags and sidecar or OME-XML declare about them.

    Args:
        path: the file.
        own_wavelengths: False: the user gives others, so that the file's do not matter.

    Raises:
        InputError: the file is not a TIFF, is damaged, has pages of different sizes, or declares numbers that are not
            amounts of light: a palette, white as zero, complex samples, a mask, an alpha channel.
    """
    with reading(path, "a TIFF file"), open_tiff(path) as file:
        series, page = file.series[0], file.pages.first
        _check_page(path, page)
        check_claim(path, series.shape, series.dtype.itemsize if series.dtype else 1)
        values = series.asarray()
        described: dict[str, Any] = next((e for e in file.shaped_metadata or () if "wavelengths" in e), {})
        samples_last = series.axes.endswith("S")  # S: samples of a pixel
        notes = _skipped(file, path)
        imagej = file.imagej_metadata or {}
        if imagej.get("cf") is not None or "c1" in imagej:
            message = "found an ImageJ calibration function (cf), which cannot be applied; save it without"
            raise InputError(f"{path}: {message}")
        if values.ndim != 3:
            message = "expected one page per band, all of one size"
            raise InputError(f"{path}: found an image of shape {values.shape}; {message}")
        stored = Stored(values, Coding(divisor=_own_scale(path, described)), 2 if samples_last else 0, notes=notes)
        stored.axis_stated = "S" in series.axes or "wavelengths" in described
        _add_declared(path, page, described, stored, own_wavelengths=own_wavelengths)
        if stored.centres is None and _has_alpha(page):
            raise InputError(f"{path}: found an alpha channel (ExtraSamples), which is no band; expected bands alone")
    if not samples_last and "wavelengths" in described:  # written by `tiff_writer`
        stored.values, stored.bands_axis = np.moveaxis(values, 0, -1), 2
    return stored


def _add_declared(
    path: Path, page: Any, described: Mapping[str, Any], stored: Stored, *, own_wavelengths: bool
) -> None:
    """Adds what the description, OME-XML, GDAL's tags and its sidecar declare, and the bits of a sample."""
    count, dtype = stored.values.shape[stored.bands_axis or 0], stored.values.dtype
    centres, units, bits = ome_channels(path, page.description, count)
    if "wavelengths" in described:
        centres, units = np.array(described["wavelengths"], np.float64).ravel(), "nm"
    elif centres is not None:
        stored.notes.append("wavelengths from the OME channels")
    stored.centres, stored.units = (centres, units) if own_wavelengths else (None, "")
    refuse_mask(path)
    items = tag_items(path, page) + sidecar_items(path)
    apply_items(path, stored, items, count, own_wavelengths=own_wavelengths)
    bits = min(page.bitspersample, bits or page.bitspersample)
    if not stored.coding.scaled and dtype.kind == "u" and bits < 8 * dtype.itemsize:
        stored.coding = replace(stored.coding, divisor=2.0**bits - 1)  # such as 12 bits in 16


def _own_scale(path: Path, described: Mapping[str, Any]) -> float | None:
    """Returns the number by which `tiff_writer` multiplied; None if it did not, or did not write the file."""
    scale = described.get("scale")
    if scale is not None and (not isinstance(scale, int | float) or not 0 < scale < math.inf):
        raise InputError(f"{path}: found scale = {str(scale)[:40]}; expected a number above 0")
    return scale


def _check_page(path: Path, page: Any) -> None:
    """Refuses what the first page declares about its numbers and what cannot be applied."""
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric not in LINEAR_PHOTOMETRICS:
        reason = REFUSED_PHOTOMETRICS.get(photometric, "numbers are no amounts of light")
        expected = "expected BlackIsZero or RGB"
        raise InputError(f"{path}: found PhotometricInterpretation {photometric} ({reason}); {expected}")
    for tag, name in REFUSED_TAGS.items():
        if tag in page.tags:
            raise InputError(f"{path}: found {name} (tag {tag}), which cannot be applied; expected a cube's numbers")
    if (orientation := page.tags.valueof(274, default=1)) != 1:
        raise InputError(f"{path}: found Orientation {orientation}; expected 1: save it upright")
    if page.is_reduced:
        raise InputError(f"{path}: found a reduced image (NewSubfileType 1) on the first page; expected a cube")
    if int(page.sampleformat) not in SAMPLE_FORMATS:
        kinds = ", ".join(SAMPLE_FORMATS.values())
        name = getattr(page.sampleformat, "name", page.sampleformat)
        found = f"{page.dtype or 'other'} values (SampleFormat {name})"
        raise InputError(f"{path}: found {found}; expected {kinds}")


def _skipped(file: tifffile.TiffFile, path: Path) -> list[str]:
    """Notes that a file has more images than the first; refuses one with a mask of its own."""
    if any(getattr(page, "is_mask", False) for page in file.pages if hasattr(page, "is_mask")):
        raise InputError(f"{path}: found a mask (NewSubfileType 4), which cannot be applied; expected bands alone")
    notes = ["the colour profile does not apply to bands"] if ICC_PROFILE in file.pages.first.tags else []
    return notes + ([f"the first of {len(file.series)} images"] if len(file.series) > 1 else [])


def _has_alpha(page: Any) -> bool:
    return any(int(extra) in (1, 2) for extra in page.extrasamples)


@contextmanager
def tiff_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes one page per band, as BigTIFF from 4 GB on; see `m3sr_jax.io.cube_writer.cube_writer`."""
    import tifffile

    pages = (shape[2], *shape[:2])
    described = {"axes": "CYX", "wavelengths": wavelengths.tolist()} | ({"scale": scale} if scale is not None else {})
    described |= {"source": source} if source else {}
    with written_whole(path) as unfinished:
        # First reserve all pages; rows are then written into each.
        place = tifffile.imwrite(
            unfinished,
            shape=pages,
            dtype=dtype,
            byteorder="<",
            photometric="minisblack",
            metadata=described,
            returnoffset=True,
        )
        assert place is not None  # returnoffset=True: contiguous pages have one offset
        with unfinished.open("r+b") as file:
            yield band_rows(file, shape, dtype, place[0])
