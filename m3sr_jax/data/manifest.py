"""What a prepared store says of itself: manifest.json, and scene.json of each scene."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.data.splits import PARTS
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading
from m3sr_jax.io.normalization import RGB_NORMALIZATIONS
from m3sr_jax.io.wavelengths import check_wavelengths

MANIFEST = "manifest.json"
FORMAT = 1
ARRAY_FILES = ("rgb.npy", "cube.npy")
CUBE_TYPES = ("uint16", "float16", "float32")


@dataclass(frozen=True)
class SceneRecord:
    """What scene.json and the manifest say of a scene.

    Attributes:
        name: of the scene and its folder.
        size: height and width.
        dtype: of the cube's codes.
        unit: the code of 1.
        rgb_range: codes of 0 and 1 in the photo.
        sha256: of each array's bytes, by file name.
        source: what the scene was made from and how.
    """

    name: str
    size: tuple[int, int]
    dtype: str
    unit: float
    rgb_range: tuple[int, int]
    sha256: dict[str, str]
    source: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SceneRecord:
        """Reads what `dataclasses.asdict` returned.

        Raises:
            ValueError: a value that no store holds, such as a name that leads out of it.
            Exception: another structure.
        """
        pairs = {key: (int(values[key][0]), int(values[key][1])) for key in ("size", "rgb_range")}
        record = cls(**{**values, **pairs, "unit": float(values["unit"])})
        name, sums = record.name, record.sha256
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"scene name {name}")
        if record.dtype not in CUBE_TYPES or not 0 < record.unit < math.inf or min(record.size) < 1:
            raise ValueError(f"scene {name}: size {record.size}, dtype {record.dtype}, unit {record.unit}")
        if set(sums) != set(ARRAY_FILES) or not all(isinstance(sum, str) for sum in sums.values()):
            raise ValueError(f"scene {name}: checksums {sums}")
        if not 0 <= record.rgb_range[0] < record.rgb_range[1] <= 256:
            raise ValueError(f"scene {name}: rgb_range {record.rgb_range}")
        return record


@dataclass(frozen=True)
class Manifest:
    """What the manifest says of a finished store.

    Attributes:
        dataset: the data set's name.
        wavelengths: band centres in nm.
        rgb_normalization: how stored pixels become [0, 1].
        camera: the name of what took the photos.
        camera_matrix: the weights by which a camera rendered the photos, (S, 3), see `Camera.matrix`; empty for photos
            from files and in stores of earlier versions.
        missing: as in `m3sr_jax.data.scenes.Dataset`.
        train: the training scenes.
        valid: the held-out scenes.
    """

    dataset: str
    wavelengths: list[float]
    rgb_normalization: str
    camera: str
    camera_matrix: list[list[float]]
    missing: list[str]
    train: list[SceneRecord]
    valid: list[SceneRecord]


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a store.

    Raises:
        InputError: the store is unfinished, of another format, or its manifest is damaged.
    """
    path = folder / MANIFEST
    with reading(path, "a store's manifest"):
        values = json.loads(path.read_text())
        if not values["finished"]:
            raise InputError(f"{folder}: found an unfinished store; run the same `m3sr prepare` again to finish it")
        if (found := json.dumps(values.get("format"))) != str(FORMAT):
            raise InputError(f"{path}: found a store of format {found}, expected {FORMAT}; run `m3sr prepare` again")
        wavelengths = [float(centre) for centre in values["wavelengths"]]
        normalization, camera = values["rgb_normalization"], values["camera"]
        if not isinstance(camera, str) or normalization not in RGB_NORMALIZATIONS:
            raise ValueError(f"camera {camera}, rgb_normalization {normalization}")
        check_wavelengths(np.array(wavelengths), path)
        matrix = np.array(values.get("camera_matrix", []), np.float64)
        if matrix.size and (matrix.shape != (len(wavelengths), 3) or not np.isfinite(matrix).all()):
            raise ValueError(f"camera_matrix of shape {matrix.shape}")
        missing = [str(name) for name in list(values.get("missing", []))]
        records = {part: [SceneRecord.from_json(record) for record in values[part]] for part in PARTS}
        return Manifest(values["dataset"], wavelengths, normalization, camera, matrix.tolist(), missing, **records)
