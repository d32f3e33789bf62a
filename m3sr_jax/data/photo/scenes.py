"""The data set "photo": simulated photos with their reflectances, made on first use and kept on disk.

The target is reflectance relative to the photo's white, with shading, scaled by one factor per photo so that the cube
under D65, seen by the CIE 1931 observer, comes nearest to the decoded photo. Photos are stored as sRGB codes and served
linear. Pigments of training and validation scenes are disjoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from m3sr_jax.data.photo.develop import draw_settings, take_photo, target_scale
from m3sr_jax.data.photo.surfaces import Pigments
from m3sr_jax.data.rendering import radiance
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.data.spectra import split_reflectances
from m3sr_jax.data.synthetic import SPLITS, ArrayReader, cache_folder
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import written_folder
from m3sr_jax.io.wavelengths import BANDS

# Part of the folder's name: increase it when the photos change.
VERSION = 1
PIGMENTS_PER_SCENE = 64
SCALE = "white of the photo"


@dataclasses.dataclass(frozen=True)
class PhotoSpec:
    """Which photos to make. Photos of equal seed and size are the same for any number of them."""

    num_train: int = 400
    num_valid: int = 40
    height: int = 128
    width: int = 128
    seed: int = 0

    def key(self) -> str:
        """Returns a hash of everything that determines the photos."""
        facts = dataclasses.asdict(self) | {"version": VERSION}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def open_photo(spec: PhotoSpec, root: str | os.PathLike[str] = "") -> Dataset:
    """Opens the photos of `spec`, after making them if the folder has none.

    Args:
        spec: which photos.
        root: as for `open_synthetic`; these are in its `photo-<hash of spec>`.

    Raises:
        InputError: the folder cannot be written, or holds damaged photos.
    """
    folder = cache_folder(root) / f"photo-{spec.key()}"
    if not folder.is_dir():
        _make(spec, folder)
    train, valid = (_open_split(spec, folder, split) for split in SPLITS)
    return Dataset("photo", train, valid)


def simulated_photo(
    pigments: Pigments, rng: np.random.Generator, height: int, width: int
) -> tuple[str, UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W 31"]]:
    """Makes one photo.

    Returns:
        camera and light; the sRGB codes; the target, clipped to [0, 1] where the photo is clipped as well.
    """
    settings = draw_settings(rng)
    scene = radiance(rng, pigments.draw(PIGMENTS_PER_SCENE, rng), np.ones(len(BANDS)), height, width)
    codes = take_photo(scene, settings, rng)
    return settings.name, codes, np.minimum(scene * np.float32(target_scale(scene, codes)), 1)


def _open_split(spec: PhotoSpec, folder: Path, split: str) -> SceneSource:
    try:
        names = json.loads((folder / f"{split}_names.json").read_text())
        reader = PhotoReader(ArrayReader(folder, split, tuple(names)))
        reader(0)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: found damaged photos ({error}); delete the folder to make them again") from error
    return SceneSource(
        names,
        [(spec.height, spec.width)] * len(names),
        reader,
        wavelengths=BANDS,
        camera_name="simulated",
        fingerprint=f"photo-{spec.key()}-{split}",
        encoding="linear",
        quantity="reflectance",
        scale=SCALE,
    )


@dataclasses.dataclass(frozen=True)
class PhotoReader:
    """Scene index → the scene, with its photo marked as sRGB."""

    arrays: ArrayReader

    def __call__(self, index: int) -> CodedScene:
        return dataclasses.replace(self.arrays(index), encoding="srgb")


def _make(spec: PhotoSpec, folder: Path) -> None:
    """Makes all photos; those of another process that was faster are the same and stay."""
    train, valid = split_reflectances(spec.seed)
    try:
        with written_folder(folder, replace=False) as unfinished:
            _make_split(spec, unfinished, "train", spec.num_train, Pigments.of(train))
            _make_split(spec, unfinished, "valid", spec.num_valid, Pigments.of(valid))
    except InputError as error:
        raise InputError(f"simulated photos: {error}; set data.root to a writable folder") from error


def _make_split(spec: PhotoSpec, folder: Path, split: str, count: int, pigments: Pigments) -> None:
    shape = (count, spec.height, spec.width)
    rgb, cube = np.empty((*shape, 3), np.uint8), np.empty((*shape, len(BANDS)), np.uint16)
    names = []
    for index in range(count):
        rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
        name, rgb[index], target = simulated_photo(pigments, rng, spec.height, spec.width)
        cube[index] = np.rint(target * 65535)
        names.append(f"{split}_{index:04d}_{name.replace(' ', '_')}")
    np.save(folder / f"{split}_rgb.npy", rgb)
    np.save(folder / f"{split}_cube.npy", cube)
    (folder / f"{split}_names.json").write_text(json.dumps(names))
