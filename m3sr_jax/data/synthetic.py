"""Synthetic scenes: measured reflectances under real lamps, seen by a camera; made on first use and kept on disk.

The target cube is radiance (reflectance × illuminant × shading) scaled to [0, 1] per scene, as in ARAD. Reflectances of
training and validation scenes are disjoint, and the light changes from scene to scene: the spectrum behind a colour
depends on the light, which only the rest of the scene reveals.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from m3sr_jax.data.camera import Camera, Shot, camera_identity, load_camera, quantise
from m3sr_jax.data.rendering import radiance
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.data.spectra import FAMILIES, illuminant, split_reflectances
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import written_folder
from m3sr_jax.io.wavelengths import BANDS

# Part of the folder's name: increase it when the scenes change, so that nobody trains on old ones.
VERSION = 2
# A small sensor indoors: electrons at rgb = 1, and read noise in electrons.
FULL_WELL, READ_NOISE = 1000.0, 4.0
SPLITS = ("train", "valid")


@dataclasses.dataclass(frozen=True)
class SyntheticSpec:
    """Which scenes to make. Scenes of equal seed, size and camera are the same for any number of scenes.

    Attributes:
        num_train: number of training scenes.
        num_valid: number of validation scenes.
        height: of a scene in pixels.
        width: of a scene in pixels.
        camera: as for `load_camera`.
        seed: for reflectance split, scenes and noise.
    """

    num_train: int = 160
    num_valid: int = 12
    height: int = 128
    width: int = 128
    camera: str = "cie1964"
    seed: int = 0

    def key(self) -> str:
        """Returns a hash of everything that determines the scenes."""
        facts = dataclasses.asdict(self) | {"camera": camera_identity(self.camera), "version": VERSION}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def cache_folder(root: str | os.PathLike[str] = "") -> Path:
    """Returns the folder for scenes: `root`, or $XDG_CACHE_HOME/m3sr-jax, or ~/.cache/m3sr-jax."""
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3sr-jax"


def open_synthetic(spec: SyntheticSpec, root: str | os.PathLike[str] = "") -> Dataset:
    """Opens the scenes of `spec`, after making them if the folder has none.

    Args:
        spec: which scenes.
        root: folder for scenes, see `cache_folder`; these are in its `synthetic-<hash of spec>`.

    Raises:
        InputError: the folder cannot be written, or holds damaged scenes.
    """
    folder = cache_folder(root) / f"synthetic-{spec.key()}"
    if not folder.is_dir():
        _make(spec, folder)
    train, valid = (_open_split(spec, folder, split) for split in SPLITS)
    return Dataset("synthetic", train, valid)


def _open_split(spec: SyntheticSpec, folder: Path, split: str) -> SceneSource:
    try:
        names = json.loads((folder / f"{split}_names.json").read_text())
        reader = ArrayReader(folder, split, tuple(names))
        reader(0)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: found damaged scenes ({error}); delete the folder to make them again") from error
    camera = load_camera(spec.camera)
    return SceneSource(
        names,
        [(spec.height, spec.width)] * len(names),
        reader,
        wavelengths=BANDS,
        camera_name=camera.name,
        fingerprint=f"synthetic-{spec.key()}-{split}",
        take=NoisyShot(camera.matrix(BANDS)),
    )


@dataclasses.dataclass(frozen=True)
class ArrayReader:
    """Scene index → the scene, from memory-mapped arrays (N, H, W, ·).

    The operating system shares the pages between processes and drops them when memory is short.
    """

    folder: Path
    split: str
    names: tuple[str, ...]

    def __call__(self, index: int) -> CodedScene:
        rgb, cube = (np.load(self.folder / f"{self.split}_{part}.npy", mmap_mode="r") for part in ("rgb", "cube"))
        return CodedScene(self.names[index], np.asarray(rgb[index]), np.asarray(cube[index]))


def _make(spec: SyntheticSpec, folder: Path) -> None:
    """Makes all scenes; those of another process that was faster are the same and stay."""
    camera = load_camera(spec.camera)
    camera.matrix(BANDS)  # refuses an unsuitable camera before anything is written
    train, valid = split_reflectances(spec.seed)
    try:
        with written_folder(folder, replace=False) as unfinished:
            _make_split(spec, unfinished, "train", spec.num_train, train, camera)
            _make_split(spec, unfinished, "valid", spec.num_valid, valid, camera)
    except InputError as error:
        raise InputError(f"synthetic scenes: {error}; set data.root to a writable folder") from error


def _make_split(spec: SyntheticSpec, folder: Path, split: str, count: int, spectra: np.ndarray, camera: Camera) -> None:
    shape = (count, spec.height, spec.width)
    rgb, cube = np.empty((*shape, 3), np.uint8), np.empty((*shape, len(BANDS)), np.uint16)
    names = []
    for index in range(count):
        rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
        light_name, light = illuminant(FAMILIES[index % len(FAMILIES)], rng)
        scene = radiance(rng, spectra, light, spec.height, spec.width)
        cube[index] = np.rint(scene * 65535)
        rgb[index] = photograph(scene, camera, rng)
        names.append(f"{split}_{index:03d}_{light_name}")
    np.save(folder / f"{split}_rgb.npy", rgb)
    np.save(folder / f"{split}_cube.npy", cube)
    (folder / f"{split}_names.json").write_text(json.dumps(names))


@dataclasses.dataclass(frozen=True)
class NoisyShot(Shot):
    """Takes photos with shot noise (Poisson, 1000 electrons at 1) and read noise (4 electrons)."""

    def __call__(self, cube: Float32[np.ndarray, "H W S"], rng: np.random.Generator) -> Float64[np.ndarray, "H W 3"]:
        electrons = rng.poisson(super().__call__(cube, rng) * FULL_WELL)
        return (electrons + rng.normal(0, READ_NOISE, electrons.shape)) / FULL_WELL


def photograph(
    cube: Float32[np.ndarray, "H W 31"], camera: Camera, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Takes an 8-bit photo of a cube with shot noise (Poisson, 1000 electrons at 1) and read noise (4 electrons)."""
    return quantise(NoisyShot(camera.matrix(BANDS))(cube, rng))
