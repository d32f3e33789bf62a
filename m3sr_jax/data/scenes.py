"""Scenes (an RGB photo and the cube it shows) and the sources that serve them.

Conventions throughout `m3sr_jax.data`: channels last; rgb and cube float32 in [0, 1]; wavelengths in nm, float64,
rising. Sources keep scenes as their files store them (rgb uint8, cube mostly uint16: a quarter and half the size of
float32) and decode only the requested part.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float16, Float32, Float64, UInt, UInt8, UInt16

from m3sr_jax.errors import InputError
from m3sr_jax.io.encoding import Encoding
from m3sr_jax.io.photos.spaces import srgb_decode

CACHE_BYTES = 2**30
Precision = Literal["uint16", "float16"]
Quantity = Literal["", "reflectance", "radiance"]
# Takes a photo of a cube in [0, 1], or of any other exposure: linear RGB, not yet clipped or rounded.
TakePhoto = Callable[[Float32[np.ndarray, "H W S"], np.random.Generator], Float[np.ndarray, "H W 3"]]


@dataclass(frozen=True)
class Scene:
    """An RGB photo and the cube it shows.

    Attributes:
        name: the scene's name in tables and messages.
        rgb: photo, (H, W, 3) in [0, 1].
        cube: reflectance or radiance, (H, W, S) in [0, 1].
        wavelengths: band centres in nm, (S,).
    """

    name: str
    rgb: Float32[np.ndarray, "H W 3"]
    cube: Float32[np.ndarray, "H W S"]
    wavelengths: Float64[np.ndarray, " S"]


@dataclass(frozen=True)
class Dataset:
    """Scenes to train on and scenes held out.

    Attributes:
        name: the data set's name in configurations and tables.
        train: scenes to train on.
        valid: scenes held out.
        missing: files or whole scenes of the official split that are not on disk.
        notes: what the user should know about the choice of scenes, such as the seed of a random split.
        skip_bad_scenes: replace crops of unreadable training scenes; held-out scenes are always required.
    """

    name: str
    train: SceneSource
    valid: SceneSource
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skip_bad_scenes: bool = False


Codes = UInt[np.ndarray, "H W C"] | Float[np.ndarray, "H W C"]


def decode(codes: Codes, low: int | float = 0, high: int | float | None = None) -> Float32[np.ndarray, "H W C"]:
    """Decodes to float32: (code − low) / (high − low).

    Args:
        codes: as stored.
        low: the code of 0.
        high: the code of 1; by default the largest value of the type.
    """
    values = np.empty(codes.shape, np.float32)
    decode_into(values, codes, low, np.iinfo(codes.dtype).max if high is None else high)
    return values


def decode_into(out: Float32[np.ndarray, "H W C"], codes: Codes, low: int | float, high: int | float) -> None:
    """Decodes into `out`. Casting, then dividing in place is twice as fast as a division that casts."""
    np.copyto(out, codes)
    if low:
        out -= np.float32(low)
    if high - low != 1:
        out /= np.float32(high - low)


@dataclass(frozen=True)
class CodedScene:
    """A scene as it is stored.

    Attributes:
        name: the scene's name.
        rgb: codes, (H, W, 3); the values are (rgb − low) / (high − low).
        cube: codes, (H, W, S); the values are cube / unit.
        rgb_range: low and high, the codes of 0 and 1 in rgb.
        unit: the code of 1 in the cube; 1 for a cube of floats.
        encoding: "codes": values are used as they are; "srgb": they are decoded to linear light.
    """

    name: str
    rgb: UInt8[np.ndarray, "H W 3"]
    cube: UInt16[np.ndarray, "H W S"] | Float16[np.ndarray, "H W S"] | Float32[np.ndarray, "H W S"]
    rgb_range: tuple[int, int] = (0, 255)
    unit: float = 65535.0
    encoding: Literal["codes", "srgb"] = "codes"

    @property
    def nbytes(self) -> int:
        return self.rgb.nbytes + self.cube.nbytes

    def region(self, rows: slice, columns: slice) -> CodedScene:
        """Returns part of the scene, without a copy."""
        return replace(self, rgb=self.rgb[rows, columns], cube=self.cube[rows, columns])

    def decoded(self, wavelengths: Float64[np.ndarray, " S"]) -> Scene:
        """Decodes the scene to float32."""
        rgb = np.empty(self.rgb.shape, np.float32)
        decode_rgb_into(rgb, self.rgb, self)
        return Scene(self.name, rgb, decode(self.cube, 0, self.unit), wavelengths)


def decode_rgb_into(out: Float32[np.ndarray, "H W 3"], codes: Codes, scene: CodedScene) -> None:
    """Decodes the photo's codes, turned perhaps, into `out`."""
    decode_into(out, codes, *scene.rgb_range)
    if scene.encoding == "srgb":
        out[...] = srgb_decode(out)


def compact(scene: CodedScene, precision: Precision) -> CodedScene:
    """Converts a cube to two bytes per value; integers stay unchanged.

    uint16: code = round(65535 · value / largest value), but 1 instead of 0 for positive values, whose relative errors
    would otherwise be infinite.

    Raises:
        InputError: values are negative (uint16) or too large (float16).
    """
    if scene.cube.dtype.kind == "u":
        return scene
    low, high = float(scene.cube.min()), float(scene.cube.max())
    if precision == "float16":
        if max(-low, high) > float(np.finfo(np.float16).max):
            raise InputError(f"scene {scene.name}: found values up to {max(-low, high):g}, too large for float16")
        return replace(scene, cube=scene.cube.astype(np.float16))
    if low < 0:
        raise InputError(f"scene {scene.name}: values down to {low:g} do not fit uint16; prepare with --dtype float16")
    unit = np.float32(65535 / high if high > 0 else 65535)
    codes = np.rint(scene.cube * unit)
    codes[(codes == 0) & (scene.cube > 0)] = 1
    return replace(scene, cube=np.minimum(codes, 65535).astype(np.uint16), unit=float(unit) * scene.unit)


class SceneSource:
    """A set of scenes, each read on first use; the most recently used stay in memory.

    A source can be pickled for worker processes; its cache stays behind.

    Args:
        names: scene names.
        sizes: (height, width) of each.
        read: index → `CodedScene`; must be picklable.
        wavelengths: band centres in nm, shared by all scenes.
        camera_name: the camera that took the photos.
        fingerprint: what `fingerprint()` returns.
        rgb_normalization: how stored pixels become [0, 1], see `m3sr_jax.io.normalization`.
        take: takes a photo of a cube as those of this source were taken; None where photos are files.
        encoding: of the decoded photos, "codes" or "linear"; see `m3sr_jax.io.encoding`.
        quantity: what the cubes hold, as in `ModelCard`.
        scale: which light is 1, as in `ModelCard`.
        scene_keys: what `scene_key` returns; by default fingerprint and name.
        cache_bytes: memory for cached scenes in each process; the newest scene always stays.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
        read: Callable[[int], CodedScene],
        *,
        wavelengths: Float64[np.ndarray, " S"],
        camera_name: str,
        fingerprint: str,
        rgb_normalization: str = "unit",
        take: TakePhoto | None = None,
        encoding: Encoding = "codes",
        quantity: Quantity = "",
        scale: str = "",
        scene_keys: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
    ):
        self.names = tuple(names)
        self.wavelengths = wavelengths
        self.camera_name = camera_name
        self.rgb_normalization = rgb_normalization
        self.take = take
        self.encoding: Encoding = encoding
        self.quantity: Quantity = quantity
        self.scale = scale
        self._sizes = tuple(sizes)
        self.read = read
        self._fingerprint = fingerprint
        self._scene_keys = tuple(scene_keys) or tuple(f"{fingerprint} {name}" for name in names)
        self._cache_bytes = cache_bytes
        self._start_cache()

    def _start_cache(self) -> None:
        self._cache: OrderedDict[int, CodedScene] = OrderedDict()
        self._cache_lock = threading.Lock()
        # One lock per scene: threads that need the same scene wait for one read.
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
        """Returns a hash that changes with the data: a resumed run compares it."""
        return self._fingerprint

    def scene_key(self, index: int) -> str:
        """Returns a text that changes with one scene's files, their modification times included."""
        return self._scene_keys[index]

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width of a scene, without reading its pixels."""
        return self._sizes[index]

    def window(self, index: int, top: int, left: int, height: int, width: int) -> Scene:
        """Returns part of a scene; fast once the scene is in memory."""
        return self.coded_window(index, top, left, height, width).decoded(self.wavelengths)

    def coded_window(self, index: int, top: int, left: int, height: int, width: int) -> CodedScene:
        """Returns the same part as it is stored."""
        index = range(len(self))[index]  # handles negative indices and raises IndexError, as a list does
        return self._coded(index).region(slice(top, top + height), slice(left, left + width))

    def _coded(self, index: int) -> CodedScene:
        scene = self._cached(index)
        if scene is not None:
            return scene
        with self._read_locks[index]:
            scene = self._cached(index)
            if scene is None:
                scene = self.read(index)
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


def files_key(identity: str, paths: Iterable[Path], *, times: bool = False) -> str:
    """Identifies a scene by its camera or benchmark and its files' names and sizes: hashing the files takes seconds.

    `times` adds when each was last modified: prepared scenes need it, because a corrected cube may keep its size. A run
    must resume with copies of its files.
    """
    facts = [identity]
    for path in paths:
        stat = path.stat()
        facts += [path.name, str(stat.st_size), *([str(stat.st_mtime_ns)] if times else [])]
    return " ".join(facts)


def fingerprint(facts: Sequence[str]) -> str:
    """Returns a short hash of what determines a data set."""
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def report_faults(errors: Sequence[InputError], faults: list[str] | None) -> None:
    """Appends the messages to `faults`; without it, raises the first and counts the rest."""
    if faults is not None:
        faults.extend(map(str, errors))
    elif errors:
        more = f" (and {len(errors) - 1} more; `m3sr check` lists all)" if len(errors) > 1 else ""
        raise InputError(f"{errors[0]}{more}")
