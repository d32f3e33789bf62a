"""Scenes: an RGB photo and the cube it was taken of, and the sources that hand them out.

Conventions of everything under `m3sr_jax.data`: channels last; rgb and cube float32 in [0, 1]; wavelengths in nm,
float64, rising. Sources keep scenes as integers (rgb uint8, cube uint16: a quarter and half of float32) and turn only
what is asked for into floats.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt, UInt8, UInt16

from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    from m3sr_jax.config import DataConfig

DEFAULT_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Scene:
    """One RGB photo with the cube it shows.

    Attributes:
        name: what the scene is called in tables and messages.
        rgb: photo, (H, W, 3) in [0, 1].
        cube: reflectance or radiance, (H, W, S) in [0, 1].
        wavelengths: band centres in nm, (S,).
    """

    name: str
    rgb: Float32[np.ndarray, "H W 3"]
    cube: Float32[np.ndarray, "H W S"]
    wavelengths: Float64[np.ndarray, " S"]


@runtime_checkable
class SceneSource(Protocol):
    """What training and evaluation ask of a set of scenes. Instances can be pickled, for worker processes."""

    @property
    def names(self) -> Sequence[str]:
        """Scene names, in index order."""
        ...

    @property
    def wavelengths(self) -> Float64[np.ndarray, " S"]:
        """Band centres in nm, shared by all scenes."""
        ...

    @property
    def rgb_normalization(self) -> str:
        """How stored pixels became [0, 1]: "unit" (by the type's largest value) or "minmax" (stretched per image)."""
        ...

    @property
    def camera_name(self) -> str:
        """Which camera the photos were taken with."""
        ...

    def fingerprint(self) -> str:
        """Hash that changes when the data change: a resumed run compares it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scene: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a scene, without reading its pixels."""
        ...

    def window(self, index: int, top: int, left: int, height: int, width: int) -> Scene:
        """A part of a scene; cheap once the scene is in memory."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Scenes to train on and scenes held out."""

    name: str
    train: SceneSource
    valid: SceneSource


def decode(codes: UInt[np.ndarray, "H W C"]) -> Float32[np.ndarray, "H W C"]:
    """Integers to float32 in [0, 1]: code / largest value of its type."""
    return np.divide(codes, np.float32(np.iinfo(codes.dtype).max), dtype=np.float32, order="C")


@dataclass(frozen=True)
class CodedScene:
    """A scene as it is kept in memory: rgb / 255 and cube / 65535 are the values."""

    name: str
    rgb: UInt8[np.ndarray, "H W 3"]
    cube: UInt16[np.ndarray, "H W S"]

    @property
    def nbytes(self) -> int:
        return self.rgb.nbytes + self.cube.nbytes


class CodedScenes:
    """A `SceneSource` that reads scenes when they are first asked for and keeps the last used ones in memory.

    Args:
        names: scene names.
        sizes: (height, width) of each.
        read: index → `CodedScene`; must be picklable.
        wavelengths: band centres in nm.
        camera_name: which camera took the photos.
        fingerprint: what `fingerprint()` returns.
        cache_bytes: scenes kept take no more than this, except that the newest always stays. Each process has its own.
    """

    rgb_normalization = "unit"

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        read: Callable[[int], CodedScene],
        *,
        wavelengths: Float64[np.ndarray, " S"],
        camera_name: str,
        fingerprint: str,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ):
        self.names = tuple(names)
        self.wavelengths = wavelengths
        self.camera_name = camera_name
        self._sizes = tuple(sizes)
        self._read = read
        self._fingerprint = fingerprint
        self._cache_bytes = cache_bytes
        self._start_cache()

    def _start_cache(self) -> None:
        self._cache: OrderedDict[int, CodedScene] = OrderedDict()
        self._cache_lock = threading.Lock()
        # One lock a scene: threads that want the same scene wait for one read instead of all doing it.
        self._read_locks = [threading.Lock() for _ in self.names]

    def __getstate__(self) -> dict[str, object]:
        process_only = ("_cache", "_cache_lock", "_read_locks")
        return {key: value for key, value in self.__dict__.items() if key not in process_only}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scene:
        return self.window(index, 0, 0, *self.size(index))

    def fingerprint(self) -> str:
        return self._fingerprint

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[index]

    def window(self, index: int, top: int, left: int, height: int, width: int) -> Scene:
        index = range(len(self))[index]  # gives negative indices and IndexError their usual meaning
        scene = self._coded(index)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return Scene(scene.name, decode(scene.rgb[rows, columns]), decode(scene.cube[rows, columns]), self.wavelengths)

    def _coded(self, index: int) -> CodedScene:
        scene = self._cached(index)
        if scene is not None:
            return scene
        with self._read_locks[index]:
            scene = self._cached(index)
            if scene is None:
                scene = self._read(index)
                self._keep(index, scene)
        return scene

    def _cached(self, index: int) -> CodedScene | None:
        with self._cache_lock:
            if index in self._cache:
                self._cache.move_to_end(index)
            return self._cache.get(index)

    def _keep(self, index: int, scene: CodedScene) -> None:
        with self._cache_lock:
            self._cache[index] = scene
            while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)


def open_dataset(config: DataConfig) -> Dataset:
    """Opens the data a configuration names.

    Args:
        config: `name` "synthetic" or "cave"; for the other fields see `m3sr_jax.data.synthetic.open_synthetic` and
            `m3sr_jax.data.cave.open_cave`.

    Raises:
        InputError: an unknown name, or data that are missing or unusable.
    """
    from m3sr_jax.data.cave import open_cave
    from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic

    if config.name == "synthetic":
        side = config.scene_size
        spec = SyntheticSpec(config.num_train_scenes, config.num_valid_scenes, side, side, config.camera)
        return open_synthetic(spec, config.root)
    if config.name == "cave":
        return open_cave(config.root, split_file=config.split_file, camera=config.camera)
    raise InputError(f'data.name is "{config.name}"; expected "synthetic" or "cave"')
