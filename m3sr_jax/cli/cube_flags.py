"""The options of every command that reads a cube: which array, and which wavelengths."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3sr_jax.io.cubes import Cube


@dataclasses.dataclass(frozen=True)
class CubeFlags:
    """How cubes are read.

    Attributes:
        key: the array in a .mat, .npz, HDF5 or NetCDF-4 file, such as rad, hsi.Data or group/name; needed only where
            several arrays can be the cube.
        wavelengths: band centres in place of the file's: START:STOP:STEP in nm, such as 400:700:10, or a file with
            one number per line.
    """

    key: str | None = None
    wavelengths: str | None = None

    def read(self, path: Path, *, allow_missing: bool = False) -> Cube:
        """Reads a cube and prints in one line what was chosen, guessed or applied.

        Raises:
            InputError: see `m3sr_jax.io.cubes.read_cube_file`.
        """
        from m3sr_jax.io.cubes import read_cube_file

        cube = read_cube_file(path, key=self.key, wavelengths=self.wavelengths, allow_missing=allow_missing)
        if cube.notes:
            print(f"{path}: {'; '.join(cube.notes)}")
        return cube
