"""Multi-page TIFF cubes: one page per band, wavelengths in the description of the first page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import BoundedFile, band_rows, check_claim, reading, written_whole
from m3sr_jax.io.wavelengths import BANDS

if TYPE_CHECKING:
    import tifffile


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Opens a TIFF without following it to other files: kinds that may name some are read as plain pages."""
    import tifffile

    with (
        BoundedFile(path) as opened,
        tifffile.TiffFile(opened, is_ome=False, is_mmstack=False, is_ndtiff=False) as file,
    ):
        yield file


def read_tiff(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads all pages of a TIFF.

    Returns:
        values with three axes (bands last if pages are bands, else in the file's order), and wavelengths in nm if
        `tiff_writer` wrote them, else None.

    Raises:
        InputError: the file is not a TIFF, is damaged, or has pages of different sizes.
    """
    with reading(path, "a TIFF file"), open_tiff(path) as file:
        series = file.series[0]
        check_claim(path, series.shape, series.dtype.itemsize if series.dtype else 1)
        values = series.asarray()
        described = file.shaped_metadata or ()
        centres = next((entry["wavelengths"] for entry in described if "wavelengths" in entry), None)
        wavelengths = None if centres is None else np.array(centres, np.float64).ravel()
        pages_are_bands = not series.axes.endswith("S")  # S: samples of a pixel
    if values.ndim != 3:
        raise InputError(f"{path}: found an image of shape {values.shape}; expected one page per band, all of one size")
    if pages_are_bands and len(values) == (BANDS if wavelengths is None else wavelengths).size:
        values = np.moveaxis(values, 0, -1)
    return values, wavelengths


@contextmanager
def tiff_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None, source: str = ""
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes one page per band, as BigTIFF from 4 GB on; see `m3sr_jax.io.cubes.cube_writer`."""
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
