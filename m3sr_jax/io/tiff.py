"""Multi-page TIFF cubes, one page a band, wavelengths in the description of the first page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import check_claim, reading, written_whole


def read_tiff(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads all pages of a TIFF.

    Returns:
        values with three axes in the file's order, and wavelengths in nm if `write_tiff` wrote them, else None.

    Raises:
        InputError: a file that is no TIFF, damaged, or without pages of equal size.
    """
    import tifffile

    with reading(path, "a TIFF file"), tifffile.TiffFile(path) as file:
        series = file.series[0]
        check_claim(path, series.shape, series.dtype.itemsize if series.dtype else 1)
        values = series.asarray()
        described = file.shaped_metadata or ()
        centres = next((entry["wavelengths"] for entry in described if "wavelengths" in entry), None)
        wavelengths = None if centres is None else np.array(centres, np.float64)
    if values.ndim != 3:
        raise InputError(f"{path}: found an image of shape {values.shape}; expected one page a band, all of one size")
    return values, wavelengths


def write_tiff(path: Path, cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"]) -> None:
    """Writes one float32 page a band."""
    import tifffile

    pages = np.ascontiguousarray(cube.transpose(2, 0, 1))
    described = {"axes": "CYX", "wavelengths": [float(centre) for centre in wavelengths]}
    with written_whole(path) as unfinished:
        tifffile.imwrite(unfinished, pages, photometric="minisblack", metadata=described)
