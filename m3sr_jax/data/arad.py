"""The ARAD benchmarks as downloaded: NTIRE 2022 (ARAD_1K) and NTIRE 2020, Clean and Real World (ARAD_HS).

A scene is a MATLAB file (v5 or v7.3) with the cube, 482×512×31 at 400-700 nm, and an 8-bit photo with the same stem.
Folder names vary (`Train_Spec`, `Train_spectral`, `NTIRE2020_Validation_Clean`, `…_Validate_Clean`), so files are found
by their own names.

Source: B. Arad et al., "NTIRE 2022 Spectral Recovery Challenge and Data Set" and "NTIRE 2020 Challenge on Spectral
Reconstruction from an RGB Image", CVPR Workshops.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from m3sr_jax.data.camera import Camera, Shot, camera_identity, load_camera, quantise
from m3sr_jax.data.scenes import CACHE_BYTES, CodedScene, Dataset, SceneSource, files_key, fingerprint, report_faults
from m3sr_jax.data.splits import PARTS, Split, find_files, present_scenes, read_split
from m3sr_jax.errors import InputError
from m3sr_jax.io.cubes import read_cube, read_cube_header
from m3sr_jax.io.normalization import rgb_range
from m3sr_jax.io.photos import image_size, read_rgb
from m3sr_jax.io.wavelengths import same_bands, span

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


@dataclass(frozen=True)
class SceneFiles:
    """A scene's files, photo size and wavelengths, as their headers give them; without a photo, a camera renders it."""

    name: str
    cube: Path
    photo: Path | None
    size: tuple[int, int]
    wavelengths: Float64[np.ndarray, " S"]


def open_arad(
    layout: Layout,
    root: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] = "",
    camera: str = "",
    cache_bytes: int = CACHE_BYTES,
    faults: list[str] | None = None,
) -> Dataset:
    """Opens a benchmark's folder: finds the files and reads their headers.

    Args:
        layout: which benchmark, one of `LAYOUTS`.
        root: the folder it was unpacked to.
        split_file: see `m3sr_jax.data.splits.read_split`; "": the scenes of the official split that are on disk.
        camera: "": the photos of the download; else a camera that renders photos of the cubes, see `load_camera`.
        cache_bytes: memory for the most recently used scenes of each part; a scene takes 31 MB.
        faults: as for `m3sr_jax.data.open.open_dataset`.

    Raises:
        InputError: the folder or a part is missing; a file is unreadable, has other bands than most, or another size
            than its photo.
    """
    cubes = {match[1]: path for match, path in find_files(root, layout.cube)}
    photos = {} if camera else {match[1]: path for match, path in find_files(root, layout.photo)}
    lacking = {name: [] if camera or name in photos else [layout.photo_name.format(name)] for name in cubes}
    lacking |= {name: [f"{name}.mat"] for name in photos.keys() - cubes.keys()}
    split = read_split(split_file, layout.split) if split_file else layout.split
    parts, missing = present_scenes(Path(root), split, lacking, strict=bool(split_file))
    scenes, errors = {}, []
    for name in (name for part in PARTS for name in parts[part]):
        try:
            scenes[name] = _read_headers(name, cubes[name], photos.get(name))
        except InputError as error:
            errors.append(error)
    errors += _drop_odd_bands(scenes)
    report_faults(errors, faults)
    response = load_camera(camera) if camera else None
    identity = camera_identity(camera) if camera else layout.name
    sources = []
    for part in PARTS:
        kept = [scenes[name] for name in parts[part] if name in scenes]
        sources.append(_open_part(layout, kept, response, identity, cache_bytes))
    return Dataset(layout.name, train=sources[0], valid=sources[1], missing=missing)


def _read_headers(name: str, cube: Path, photo: Path | None) -> SceneFiles:
    (height, width, _), wavelengths = read_cube_header(cube, key=CUBE_KEY)
    size = (height, width)
    if photo is None:
        size = USUAL_SIZE if size == USUAL_SIZE[::-1] else size
    else:
        size = image_size(photo)
        if size not in ((height, width), (width, height)):
            raise InputError(
                f"{photo}: found a photo of {size[0]}×{size[1]} pixels; expected {height}×{width} as in {cube.name}"
            )
    return SceneFiles(name, cube, photo, size, wavelengths)


def _drop_odd_bands(scenes: dict[str, SceneFiles]) -> list[InputError]:
    """Removes the scenes whose bands differ from those of most scenes; returns an error for each."""
    if not scenes:
        return []
    counts = Counter(tuple(np.round(files.wavelengths)) for files in scenes.values())
    usual = np.array(counts.most_common(1)[0][0])
    errors = []
    for name, files in list(scenes.items()):
        found = files.wavelengths
        if not same_bands(found, usual):
            message = f"found {len(found)} bands of {span(found)}; expected {len(usual)} of {span(usual)}"
            errors.append(InputError(f"{files.cube}: {message} as in most scenes"))
            del scenes[name]
    return errors


def _open_part(
    layout: Layout, scenes: list[SceneFiles], camera: Camera | None, identity: str, cache_bytes: int
) -> SceneSource:
    keys = [files_key(identity, filter(None, (files.cube, files.photo))) for files in scenes]
    return SceneSource(
        [files.name for files in scenes],
        [files.size for files in scenes],
        AradReader(tuple(scenes), layout.rgb_normalization, camera),
        wavelengths=scenes[0].wavelengths if scenes else np.empty(0),
        camera_name=layout.camera if camera is None else camera.name,
        fingerprint=f"{layout.name}-{fingerprint(keys)}",
        rgb_normalization=layout.rgb_normalization,
        take=Shot(camera.matrix(scenes[0].wavelengths)) if camera and scenes else None,
        scene_keys=keys,
        cache_bytes=cache_bytes,
    )


@dataclass(frozen=True)
class AradReader:
    """Scene index → the scene's cube and its photo, read from a file or rendered by a camera."""

    scenes: tuple[SceneFiles, ...]
    normalization: str
    camera: Camera | None

    def __call__(self, index: int) -> CodedScene:
        files = self.scenes[index]
        cube, wavelengths = read_cube(files.cube, key=CUBE_KEY)
        if cube.shape[:2] == files.size[::-1] != files.size:  # written without regard to MATLAB's order of axes
            cube = np.ascontiguousarray(cube.swapaxes(0, 1))
        if files.photo is not None:
            rgb = quantise(read_rgb(files.photo))
        else:
            assert self.camera is not None  # a scene without a photo is opened with a camera
            rgb = quantise(self.camera.render(cube, wavelengths))
        return CodedScene(files.name, rgb, cube, rgb_range(rgb, self.normalization), unit=1.0)
