"""Pairs of files, a cube and a photo: header checks, and the reader that serves them as scenes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from m3sr_jax.data.camera import Camera, Shot, quantise
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource, files_key, fingerprint, report_faults
from m3sr_jax.data.splits import PARTS
from m3sr_jax.errors import InputError
from m3sr_jax.io.cubes import cube_notes, files_of_cube, read_cube, read_cube_header
from m3sr_jax.io.normalization import rgb_range
from m3sr_jax.io.photos import image_size, read_rgb
from m3sr_jax.io.wavelengths import same_bands, span


@dataclass(frozen=True)
class CubeFormat:
    """How cube files are read, see `m3sr_jax.io.cubes.read_cube`.

    Attributes:
        key: name of the array that holds the cube; None: the only one.
        wavelengths: "400:700:10", a list or a file; None: those of the file.
        white: the stored number that becomes 1; None: as the file declares.
    """

    key: str | None = None
    wavelengths: str | None = None
    white: float | None = None

    def read(self, path: Path) -> tuple[Float32[np.ndarray, "H W S"], Float64[np.ndarray, " S"]]:
        """Returns cube and wavelengths."""
        return read_cube(path, key=self.key, wavelengths=self.wavelengths, white=self.white)

    def read_header(self, path: Path) -> tuple[tuple[int, int, int], Float64[np.ndarray, " S"]]:
        """Returns shape and wavelengths."""
        return read_cube_header(path, key=self.key, wavelengths=self.wavelengths)

    def notes(self, path: Path) -> list[str]:
        """Returns what the reader chooses, guesses or applies, each after the file's name."""
        return [f"{path.name}: {note}" for note in cube_notes(path, key=self.key, wavelengths=self.wavelengths)]


@dataclass(frozen=True)
class Pairs:
    """What the pairs of a data set have in common.

    Attributes:
        name: the data set's name.
        identity: what else changes the scenes, for hashes: the camera's identity, say.
        photo_camera: what took the photos.
        rgb_normalization: how photos become [0, 1], see `m3sr_jax.io.normalization`.
        camera: renders the photos; None: they are read from files.
        cubes: how cube files are read.
        usual_size: rows and columns by which a cube without a photo is known to be rotated; None: cubes never are.
    """

    name: str
    identity: str
    photo_camera: str
    rgb_normalization: str
    camera: Camera | None
    cubes: CubeFormat = field(default_factory=CubeFormat)
    usual_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class SceneFiles:
    """A scene's files, photo size and wavelengths, as their headers give them; without a photo, a camera renders it."""

    name: str
    cube: Path
    photo: Path | None
    size: tuple[int, int]
    wavelengths: Float64[np.ndarray, " S"]


def open_pairs(
    pairs: Pairs,
    scenes: Mapping[str, Sequence[tuple[str, Path, Path | None]]],
    *,
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
    cache_bytes: int,
    faults: list[str] | None,
) -> Dataset:
    """Reads the headers of all files and opens the scenes.

    Args:
        pairs: what they have in common.
        scenes: part → name, cube and photo of each scene.
        missing: see `Dataset`.
        notes: see `Dataset`.
        cache_bytes: memory for the most recently used scenes of each part.
        faults: as for `m3sr_jax.data.open.open_dataset`.

    Raises:
        InputError: a file is unreadable, has other bands than most, or another size than its photo.
    """
    opened, errors = {}, []
    for name, cube, photo in (files for part in PARTS for files in scenes[part]):
        try:
            opened[name] = _read_headers(pairs, name, cube, photo)
        except InputError as error:
            errors.append(error)
    errors += _drop_odd_bands(opened)
    report_faults(errors, faults)
    train, valid = (
        _open_part(pairs, [opened[name] for name, *_ in scenes[part] if name in opened], cache_bytes) for part in PARTS
    )
    return Dataset(pairs.name, train, valid, missing=tuple(missing), notes=tuple(notes))


def _read_headers(pairs: Pairs, name: str, cube: Path, photo: Path | None) -> SceneFiles:
    (height, width, _), wavelengths = pairs.cubes.read_header(cube)
    size = (height, width)
    if photo is None:
        size = pairs.usual_size if pairs.usual_size is not None and size == pairs.usual_size[::-1] else size
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


def _open_part(pairs: Pairs, scenes: list[SceneFiles], cache_bytes: int) -> SceneSource:
    keys = [files_key(pairs.identity, filter(None, (files.cube, files.photo))) for files in scenes]
    opened = [filter(None, (*files_of_cube(files.cube), files.photo)) for files in scenes]
    return SceneSource(
        [files.name for files in scenes],
        [files.size for files in scenes],
        PairReader(pairs, tuple(scenes)),
        wavelengths=scenes[0].wavelengths if scenes else np.empty(0),
        camera_name=pairs.photo_camera if pairs.camera is None else pairs.camera.name,
        fingerprint=f"{pairs.name}-{fingerprint(keys)}",
        rgb_normalization=pairs.rgb_normalization,
        take=Shot(pairs.camera.matrix(scenes[0].wavelengths)) if pairs.camera and scenes else None,
        scene_keys=[files_key(pairs.identity, paths, times=True) for paths in opened],
        cache_bytes=cache_bytes,
    )


@dataclass(frozen=True)
class PairReader:
    """Scene index → the scene's cube and its photo, read from a file or rendered by a camera."""

    pairs: Pairs
    scenes: tuple[SceneFiles, ...]

    def __call__(self, index: int) -> CodedScene:
        files, camera = self.scenes[index], self.pairs.camera
        cube, wavelengths = self.pairs.cubes.read(files.cube)
        if cube.shape[:2] == files.size[::-1] != files.size:  # written without regard to MATLAB's order of axes
            cube = np.ascontiguousarray(cube.swapaxes(0, 1))
        if files.photo is not None:
            rgb = quantise(read_rgb(files.photo))
        else:
            assert camera is not None  # a scene without a photo is opened with a camera
            rgb = quantise(camera.render(cube, wavelengths))
        return CodedScene(files.name, rgb, cube, rgb_range(rgb, self.pairs.rgb_normalization), unit=1.0)
