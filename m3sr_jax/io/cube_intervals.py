"""The intervals of a cube on disk: half-widths in its file, or in a second file beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.cube_writer import SUFFIXES, interval_file
from m3sr_jax.io.cubes import NAMED_SUFFIXES, read_cube_file
from m3sr_jax.io.named_arrays import open_arrays
from m3sr_jax.io.strips import every_nth

INTERVAL = "interval"


def interval_files(path: Path) -> list[Path]:
    """Returns the files, besides its own, that a cube's interval takes: none in formats of named arrays."""
    path = path.with_suffix(".hdr") if path.suffix.lower() == ".img" else path
    if path.suffix.lower() not in SUFFIXES or path.suffix.lower() in NAMED_SUFFIXES:
        return []
    beside = interval_file(path)
    return [beside, beside.with_suffix(".img")] if beside.suffix.lower() == ".hdr" else [beside]


def is_interval(path: Path) -> bool:
    """Tells whether a file holds the half-widths of a cube beside it: NAME_interval.tif beside NAME.tif, say."""
    cube = path.with_name(path.stem.removesuffix(f"_{INTERVAL}") + path.suffix)
    return path in interval_files(cube) and cube.is_file()


def read_interval(
    path: str | os.PathLike[str], shape: tuple[int, ...], step: int = 1, wavelengths: str | None = None
) -> Float32[np.ndarray, "h w S"] | None:
    """Reads the half-widths of a cube's intervals, as `m3sr predict` stores them; None if there are none.

    Args:
        path: the file of the cube.
        shape: (H, W, S) of the cube.
        step: every step-th row and column is returned, see `m3sr_jax.io.strips.every_nth`.
        wavelengths: in place of the file's, as the cube was read with them: they set the order of the bands.

    Raises:
        InputError: a file is missing or damaged, or the interval has another shape than the cube.
    """
    path = Path(path)
    if path.suffix.lower() in NAMED_SUFFIXES:
        with open_arrays(path) as entries:
            cube, interval = entries.get("cube"), entries.get(INTERVAL)
            if cube is None or interval is None or not interval.numeric or interval.shape != cube.shape:
                return None
        source, key = path, INTERVAL
    else:
        found = [beside for beside in interval_files(path) if beside.is_file()]
        if not found:
            return None
        source, key = found[0], None
    values = read_cube_file(source, key=key, wavelengths=wavelengths, allow_missing=True).values
    if values.shape != tuple(shape):
        raise InputError(f"{source}: found {values.shape}; expected {tuple(shape)} as in {path.name}, or another name")
    return every_nth(values, step).copy()
