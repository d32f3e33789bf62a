"""The ARAD benchmarks as downloaded: NTIRE 2022 (ARAD_1K) and NTIRE 2020, Clean and Real World (ARAD_HS).

A scene is a MATLAB file (v5 or v7.3) with the cube, 482×512×31 at 400-700 nm, and an 8-bit photo with the same stem.
Folder names vary (`Train_Spec`, `Train_spectral`, `NTIRE2020_Validation_Clean`, `…_Validate_Clean`), so files are found
by their own names.

Source: B. Arad et al., "NTIRE 2022 Spectral Recovery Challenge and Data Set" and "NTIRE 2020 Challenge on Spectral
Reconstruction from an RGB Image", CVPR Workshops.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m3sr_jax.data.camera import camera_identity, load_camera
from m3sr_jax.data.pairs import CubeFormat, Pairs, open_pairs
from m3sr_jax.data.scenes import CACHE_BYTES, Dataset
from m3sr_jax.data.splits import PARTS, Split, find_files, present_scenes, read_split
from m3sr_jax.errors import InputError

CUBE_KEY = "cube"  # the array in every file
# Rows and columns: without a photo, they tell whether a cube is rotated.
USUAL_SIZE = (482, 512)


@dataclass(frozen=True)
class Layout:
    """What one benchmark's download looks like.

    Attributes:
        name: the data set's name.
        cube: regular expression for a cube's file name; the first group is the stem.
        photo: the same for a photo.
        photo_name: template of a photo's file name, to report missing files.
        split: stems of the official parts.
        rgb_normalization: how the photos become [0, 1], see `m3sr_jax.io.normalization`.
        camera: what took the photos.
    """

    name: str
    cube: str
    photo: str
    photo_name: str
    split: Split
    rgb_normalization: str
    camera: str


# The data set's authors withdrew three training scenes.
_WITHDRAWN_2022 = (314, 340, 531)
_SPLIT_2022 = {
    "train": tuple(f"ARAD_1K_{number:04d}" for number in range(1, 901) if number not in _WITHDRAWN_2022),
    "valid": tuple(f"ARAD_1K_{number:04d}" for number in range(901, 951)),
}
_SPLIT_2020 = {
    "train": tuple(f"ARAD_HS_{number:04d}" for number in range(1, 451)),
    "valid": tuple(f"ARAD_HS_{number:04d}" for number in (451, 453, 455, 456, 457, 459, 462, 463, 464, 465)),
}
_CUBE_2020 = r"(ARAD_HS_\d{4})\.mat"
LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            *("ntire2022", r"(ARAD_1K_\d{4})\.mat", r"(ARAD_1K_\d{4})\.(?:jpe?g|png)", "{}.jpg"),
            *(_SPLIT_2022, "minmax", "NTIRE 2022 photos"),
        ),
        Layout(
            *("ntire2020_clean", _CUBE_2020, r"(ARAD_HS_\d{4})_clean\.png", "{}_clean.png"),
            *(_SPLIT_2020, "unit", "NTIRE 2020 Clean photos"),
        ),
        Layout(
            *("ntire2020_real", _CUBE_2020, r"(ARAD_HS_\d{4})_RealWorld\.(?:jpe?g|png)", "{}_RealWorld.jpg"),
            *(_SPLIT_2020, "unit", "NTIRE 2020 Real World photos"),
        ),
    )
}


def open_arad(
    layout: Layout,
    root: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] = "",
    camera: str = "",
    cache_bytes: int = CACHE_BYTES,
    faults: list[str] | None = None,
    required: Sequence[str] = PARTS,
) -> Dataset:
    """Opens a benchmark's folder: finds the files and reads their headers.

    Args:
        layout: which benchmark, one of `LAYOUTS`.
        root: the folder it was unpacked to.
        split_file: see `m3sr_jax.data.splits.read_split`; "": the scenes of the official split that are on disk.
        camera: "": the photos of the download; else a camera that renders photos of the cubes, see `load_camera`.
        cache_bytes: memory for the most recently used scenes of each part; a scene takes 31 MB.
        faults: as for `m3sr_jax.data.open.open_dataset`, like `required`.
        required: see `faults`.

    Raises:
        InputError: the folder or a part is missing; a scene has two photos; a file is unreadable, has other bands than
            most, or another size than its photo.
    """
    cubes = {match[1]: path for match, path in find_files(root, layout.cube)}
    photos = {} if camera else _photos(root, layout.photo)
    lacking = {name: [] if camera or name in photos else [layout.photo_name.format(name)] for name in cubes}
    lacking |= {name: [f"{name}.mat"] for name in photos.keys() - cubes.keys()}
    split = read_split(split_file, layout.split, required=required) if split_file else layout.split
    parts, missing = present_scenes(Path(root), split, lacking, strict=bool(split_file), required=required)
    pairs = Pairs(
        name=layout.name,
        identity=camera_identity(camera) if camera else layout.name,
        photo_camera=layout.camera,
        rgb_normalization=layout.rgb_normalization,
        camera=load_camera(camera) if camera else None,
        cubes=CubeFormat(CUBE_KEY),
        usual_size=USUAL_SIZE,
    )
    scenes = {part: [(name, cubes[name], photos.get(name)) for name in parts[part]] for part in PARTS}
    return open_pairs(pairs, scenes, missing=missing, cache_bytes=cache_bytes, faults=faults)


def _photos(root: str | os.PathLike[str], pattern: str) -> dict[str, Path]:
    """Returns stem → photo."""
    found: dict[str, Path] = {}
    for match, path in find_files(root, pattern):
        first = found.setdefault(match[1], path)
        if first != path:
            raise InputError(f"{path}: a second photo of scene {match[1]}, beside {first}; remove one of them")
    return found
