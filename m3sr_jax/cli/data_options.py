"""Options that choose scenes, shared by the commands that read a data set."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from m3sr_jax.io.normalization import RgbNormalization

if TYPE_CHECKING:
    from m3sr_jax.config import DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the scenes are and how they are read; the options from --photos on are for the data set folder alone.

    Attributes:
        data_root: folder of the data set as downloaded, or a prepared store; by default $M3SR_DATA/NAME or data/NAME.
            For synthetic scenes their cache.
        split_file: lists the training and the test scenes, in place of the built-in split.
        camera: camera response that photos are rendered with: cie1964, or a CSV, MAT or NPZ file; by default the data
            set's own photos are used, or cie1964 if it has none.
        photos: folder of the photos, relative to --data-root or absolute, or a pattern such as *_clean.png; by default
            photos/, or anywhere.
        cubes: the same for the cubes; by default cubes/, or anywhere.
        key: name of the array that holds the cube.
        wavelengths: of the bands in nm, 400:700:10, a list or a file, in place of those of the cube files.
        white: the stored number that becomes 1, such as 4095; by default the largest of an integer type, or 1.
        rgb_normalization: how photos become [0, 1]: unit (divided by the format's largest value), or minmax per image.
        valid_fraction: share of the scenes that a random split holds out, by default 0.2; 1 leaves none to train on.
        split_seed: number of the random split.
    """

    data_root: str | None = None
    split_file: str | None = None
    camera: str | None = None
    photos: str | None = None
    cubes: str | None = None
    key: str | None = None
    wavelengths: str | None = None
    white: float | None = None
    rgb_normalization: RgbNormalization | None = None
    valid_fraction: float | None = None
    split_seed: int | None = None

    def data_config(self, base: DataConfig) -> DataConfig:
        """Returns `base` with what the options give.

        Raises:
            InputError: a value is out of range, or is for the data set folder and `base` is another.
        """
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)}
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(base, **{"root" if name == "data_root" else name: v for name, v in given.items()})
