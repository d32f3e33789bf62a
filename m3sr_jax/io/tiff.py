"""Multi-page TIFF cubes, one page a band, wavelengths in the description of the first page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import USUAL_BANDS, BoundedFile, band_rows, check_claim, reading, written_whole

if TYPE_CHECKING:
    import tifffile


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Opens a TIFF alone: the kinds whose text may name other files, anywhere, are taken for plain pages."""
    import tifffile

    with (
        BoundedFile(path) as opened,
        tifffile.TiffFile(opened, is_ome=False, is_mmstack=False, is_ndtiff=False) as file,
    ):
        yield file


def read_tiff(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads all pages of a TIFF.

    Returns:
        values with three axes, the bands on the last if pages are bands, else in the file's order, and wavelengths in
        nm if `tiff_writer` wrote them, else None.

    Raises:
        InputError: a file that is no TIFF, damaged, or without pages of equal size.
    """
    with reading(path, "a TIFF file"), open_tiff(path) as file:
        series = file.series[0]
        check_claim(path, series.shape, series.dtype.itemsize if series.dtype else 1)
        values = series.asarray()
        described = file.shaped_metadata or ()
        centres = next((entry["wavelengths"] for entry in described if "wavelengths" in entry), None)
        wavelengths = None if centres is None else np.array(centres, np.float64)
        pages_are_bands = not series.axes.endswith("S")  # S: samples of a pixel
    if values.ndim != 3:
        raise InputError(f"{path}: found an image of shape {values.shape}; expected one page a band, all of one size")
    if pages_are_bands and len(values) == (USUAL_BANDS if wavelengths is None else wavelengths.size):
        values = np.moveaxis(values, 0, -1)
    return values, wavelengths


@contextmanager
def tiff_writer(
    path: Path, shape: tuple[int, ...], wavelengths: np.ndarray, dtype: np.dtype, scale: float | None
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes one page a band, a BigTIFF where that takes 4 GB; see `m3sr_jax.io.cubes.cube_writer`."""
    import tifffile

    pages = (shape[2], *shape[:2])
    described = {"axes": "CYX", "wavelengths": wavelengths.tolist()} | ({"scale": scale} if scale is not None else {})
    with written_whole(path) as unfinished:
        # Space for all pages first, to be filled a few rows of each at a time.
        place = tifffile.imwrite(
            unfinished,
            shape=pages,
            dtype=dtype,
            byteorder="<",
            photometric="minisblack",
            metadata=described,
            returnoffset=True,
        )
        assert place is not None  # returnoffset=True: pages in a row are at one place
        with unfinished.open("r+b") as file:
            yield band_rows(file, shape, dtype, place[0])
