"""`m3sr view`: writes a cube as a web page."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from m3sr_jax.cli.cube_flags import CubeFlags
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import same_bands, span

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class View:
    """Make a web page of a cube: its colours, its bands, the spectrum of any pixel, and its errors.

    The page is one file that works offline in any browser of 2023 or later. Intervals that m3sr predict stored with the
    cube are drawn around its spectra and as a map.

    Attributes:
        cube: the cube: ENVI (.hdr or its data file), .mat, .npz, .npy, .tif, HDF5 or NetCDF-4.
        rgb: the photo it was reconstructed from, to switch to.
        truth: the true cube; adds its spectra, an error map and the error of each band.
        output: the page; by default the cube's name with .html. An existing page is replaced.
        title: heading of the page; by default the cube's name.
        reading: how the cube, and the truth, are read.
        truth_key: the array of the truth, where it differs from --key.
    """

    cube: Annotated[Positional[Path], arg(metavar="CUBE")]
    rgb: Path | None = None
    truth: Path | None = None
    output: Path | None = None
    title: str | None = None
    reading: Annotated[CubeFlags, arg(name="")] = dataclasses.field(default_factory=CubeFlags)
    truth_key: str | None = None

    def run(self) -> None:
        """Writes the page and prints its size.

        Raises:
            InputError: a file cannot be read, the files do not match, Bokeh is missing, or the page cannot be written.
        """
        from rich.console import Console

        from m3sr_jax.viewer.page import require_bokeh, write_page

        require_bokeh()
        if self.cube.is_dir():
            raise InputError(f"{self.cube}: found a folder; expected a cube")
        if self.truth_key is not None and self.truth is None:
            raise InputError(f"--truth-key {self.truth_key}: needs the file of the truth, --truth")
        page = self.output or self.cube.with_suffix(".html")
        if page.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{page}: expected a name that ends in .html")
        with Console(stderr=True).status("reading") as status:
            cube, wavelengths = self._read(self.cube, self.reading.key)
            interval = self._read_interval(cube.shape)
            truth = None
            if self.truth is not None:
                truth, wavelengths = self._read_truth(cube.shape, wavelengths)
            photo = None if self.rgb is None else self._read_photo(cube.shape)
            status.update(f"making the page of {cube.shape[0]}×{cube.shape[1]}×{cube.shape[2]} values")
            write_page(
                page, cube, wavelengths, photo=photo, truth=truth, interval=interval, title=self.title or self.cube.stem
            )
        print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser")

    def _read(self, path: Path, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
        cube = dataclasses.replace(self.reading, key=key).read(path, allow_missing=True)
        if cube.wavelengths is None:
            print(f"{path}: no wavelengths; its bands are numbered (--wavelengths START:STOP:STEP gives them)")
        return cube.values, cube.wavelengths

    def _read_interval(self, shape: tuple[int, ...]) -> np.ndarray | None:
        from m3sr_jax.io.cube_intervals import read_interval
        from m3sr_jax.viewer.packing import decimation

        if self.reading.key not in (None, "cube"):
            return None
        step = decimation(math.prod(shape) * (2 if self.truth is None else 3))
        return read_interval(self.cube, shape, step, self.reading.wavelengths)

    def _read_truth(
        self, shape: tuple[int, ...], wavelengths: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the truth, and the wavelengths that it and the cube have in common, or that one of them states."""
        from m3sr_jax.io.cubes import NAMED_SUFFIXES

        assert self.truth is not None
        key = self.truth_key or (self.reading.key if self.truth.suffix.lower() in NAMED_SUFFIXES else None)
        truth, nm = self._read(self.truth, key)
        if truth.shape != shape:
            raise InputError(f"{self.truth}: found {_size(truth.shape)}; expected {_size(shape)} as in {self.cube}")
        if nm is None or wavelengths is None:
            return truth, wavelengths if nm is None else nm
        if not same_bands(nm, wavelengths):
            expected = f"those of {self.cube}, {span(wavelengths)}"
            raise InputError(f"{self.truth}: found bands of {span(nm)}; expected {expected}")
        return truth, wavelengths

    def _read_photo(self, shape: tuple[int, ...]) -> np.ndarray:
        from m3sr_jax.io import read_photo
        from m3sr_jax.io.encoding import converted
        from m3sr_jax.viewer.page import same_proportions

        assert self.rgb is not None
        photo = read_photo(self.rgb)
        height, width = photo.codes.shape[:2]
        if not same_proportions((height, width), shape):
            raise InputError(
                f"{self.rgb}: found {height}×{width} pixels; expected the proportions of {self.cube}, "
                f"{shape[0]}×{shape[1]}"
            )
        return converted(photo.rgb, photo.encoding, "srgb")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}×{shape[1]} pixels of {shape[2]} bands"
