"""Data sets of scenes that are made on first use and kept on disk as arrays: `synthetic` and `photo`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.data.spectra import split_reflectances
from m3sr_jax.data.splits import PARTS
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import written_folder
from m3sr_jax.io.wavelengths import BANDS

# Name of a scene, its photo and its cube in [0, 1].
Made = tuple[str, UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W 31"]]
# Reflectances to choose from, number of the scene, and generator → the scene.
Make = Callable[[Any, int, np.random.Generator], Made]
Stored = Literal["codes", "srgb"]
# NumPy reads a file's header with `ast`, which fails at random in several threads at once (Python 3.11 and 3.12).
_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class SceneSpec:
    """Which scenes to make, and of which size in pixels. With equal other fields, more scenes begin with the same ones.

    `seed` is that of the reflectance split, the scenes and the noise.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[int]  # to be increased when the scenes change, so that nobody trains on old ones

    num_train: int
    num_valid: int
    height: int = 128
    width: int = 128
    seed: int = 0

    def facts(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"version": self.VERSION}

    def key(self) -> str:
        """Returns a hash of everything that determines the scenes."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]


def cache_folder(root: str | os.PathLike[str] = "") -> Path:
    """Returns the folder for scenes: `root`, or $XDG_CACHE_HOME/m3sr-jax, or ~/.cache/m3sr-jax."""
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3sr-jax"


def open_generated(
    spec: SceneSpec,
    root: str | os.PathLike[str],
    make: Make,
    *,
    prepare: Callable[[np.ndarray], Any] = lambda reflectances: reflectances,
    stored: Stored = "codes",
    **source: Any,
) -> Dataset:
    """Opens the scenes of `spec`, after making them if the folder has none.

    Args:
        spec: which scenes.
        root: folder for scenes, see `cache_folder`; these are in its `NAME-<hash of spec>`.
        make: makes one scene from the reflectances of its part.
        prepare: what `make` gets in place of a part's reflectances.
        stored: encoding of the photos on disk, see `CodedScene`.
        **source: further fields of both `SceneSource`s.

    Raises:
        InputError: the folder cannot be written, or holds damaged scenes.
    """
    folder = cache_folder(root) / f"{spec.NAME}-{spec.key()}"
    if not folder.is_dir():
        _make_all(spec, folder, make, prepare)
    train, valid = (_open_part(spec, folder, part, stored, source) for part in PARTS)
    return Dataset(spec.NAME, train, valid)


def _open_part(spec: SceneSpec, folder: Path, part: str, stored: Stored, source: dict[str, Any]) -> SceneSource:
    try:
        names = json.loads((folder / f"{part}_names.json").read_text())
        reader = ArrayReader(folder, part, tuple(names), stored)
        reader(0)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder}: found damaged scenes ({error}); delete the folder to make them again") from error
    sizes, fingerprint = [(spec.height, spec.width)] * len(names), f"{folder.name}-{part}"
    return SceneSource(names, sizes, reader, wavelengths=BANDS, fingerprint=fingerprint, **source)


@dataclasses.dataclass(frozen=True)
class ArrayReader:
    """Scene index → the scene, from memory-mapped arrays (N, H, W, ·).

    The operating system shares the pages between processes and drops them when memory is short.
    """

    folder: Path
    part: str
    names: tuple[str, ...]
    encoding: Stored

    def __call__(self, index: int) -> CodedScene:
        rgb, cube = (_mapped(self.folder / f"{self.part}_{name}.npy") for name in ("rgb", "cube"))
        scene = self.names[index], np.asarray(rgb[index]), np.asarray(cube[index])
        return CodedScene(*scene, encoding=self.encoding)


def _mapped(path: Path) -> np.ndarray:
    """Maps a .npy file into memory; of an array that is open already, only the pages are read."""
    with _OPENING:
        return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _opened(path: Path, changed_ns: int) -> np.ndarray:
    """Opens an array; `changed_ns` tells a file from the one that it replaced."""
    del changed_ns
    return np.load(path, mmap_mode="r")


def _make_all(spec: SceneSpec, folder: Path, make: Make, prepare: Callable[[np.ndarray], Any]) -> None:
    """Makes all scenes; those of another process that was faster are the same and stay."""
    try:
        with written_folder(folder, replace=False) as unfinished:
            for number, reflectances in enumerate(split_reflectances(spec.seed)):
                _make_part(spec, unfinished, number, partial(make, prepare(reflectances)))
    except InputError as error:
        raise InputError(f"{spec.NAME} scenes: {error}; set data.root to a writable folder") from error


def _make_part(spec: SceneSpec, folder: Path, number: int, make: Callable[..., Made]) -> None:
    part, count = PARTS[number], (spec.num_train, spec.num_valid)[number]
    shape, names = (count, spec.height, spec.width), []
    rgb, cube = np.empty((*shape, 3), np.uint8), np.empty((*shape, len(BANDS)), np.uint16)
    for index in range(count):
        name, rgb[index], values = make(index, np.random.default_rng([spec.seed, number, index]))
        cube[index] = np.rint(values * 65535)
        names.append(f"{part}_{name}")
    np.save(folder / f"{part}_rgb.npy", rgb)
    np.save(folder / f"{part}_cube.npy", cube)
    (folder / f"{part}_names.json").write_text(json.dumps(names))
