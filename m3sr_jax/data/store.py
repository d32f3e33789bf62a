"""Prepared data sets: one folder of arrays that can be memory-mapped, made once by `m3sr prepare`.

    STORE/manifest.json           the data set, its bands, its parts; says it is unfinished until all scenes are there
    STORE/scenes/NAME/rgb.npy     (H, W, 3) uint8
    STORE/scenes/NAME/cube.npy    (H, W, S); training scenes uint16 (value = code / unit) or float16, held-out scenes as
                                  exact as their files, float32 mostly: scores are those of the files
    STORE/scenes/NAME/scene.json  ranges, checksums, and what the scene was made from

A scene's folder appears whole or not at all, so an interrupted preparation goes on with the next scene. A crop touches
only its own pages: the system shares and drops them, and no process holds the data set in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource, fingerprint
from m3sr_jax.data.splits import PARTS, present_scenes, read_split
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading, written_whole
from m3sr_jax.model_card import RGB_NORMALIZATIONS

MANIFEST = "manifest.json"
FORMAT = 1
CUBE_TYPES = ("uint16", "float16", "float32")
NPY_HEADER_BYTES = 128  # np.save's, for arrays as plain as these
Precision = Literal["uint16", "float16"]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class SceneRecord:
    """What scene.json and the manifest say of a scene.

    Attributes:
        name: the scene's name, and that of its folder.
        size: height and width.
        dtype: of the cube's codes.
        unit: the code of 1.
        rgb_range: codes of 0 and 1 in the photo.
        sha256: of the two arrays' bytes, by file name.
        source: hash of what the scene was made from and how.
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
        """Reads what `dataclasses.asdict` gave.

        Raises:
            ValueError: it is not what a store holds: a name that leads out of it, say.
            Exception: it has another structure.
        """
        pairs = {key: (int(values[key][0]), int(values[key][1])) for key in ("size", "rgb_range")}
        record = cls(**{**values, **pairs, "unit": float(values["unit"])})
        name, sums = record.name, record.sha256
        if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"scene name {name!r}")
        if record.dtype not in CUBE_TYPES or not 0 < record.unit < math.inf or min(record.size) < 1:
            raise ValueError(f"scene {name}: size {record.size}, dtype {record.dtype!r}, unit {record.unit}")
        if set(sums) != {"rgb.npy", "cube.npy"} or not all(isinstance(sum, str) for sum in sums.values()):
            raise ValueError(f"scene {name}: checksums {sums}")
        if not 0 <= record.rgb_range[0] < record.rgb_range[1] <= 256:
            raise ValueError(f"scene {name}: rgb_range {record.rgb_range}")
        return record


def prepare(
    dataset: Dataset,
    output: str | os.PathLike[str],
    *,
    precision: Precision = "uint16",
    progress: Progress = lambda done, total, name: None,
) -> int:
    """Writes a data set as a store; scenes that are there from an earlier, interrupted run are kept.

    Args:
        dataset: as opened from its download.
        output: the store's folder.
        precision: of training cubes that are floats. uint16: an absolute error of at most 1/131070 of the scene's
            largest value, twice that for positive values that would become 0; float16: a relative one of 1/2048,
            negative values allowed. Cubes whose files hold integers stay as they are.
        progress: called with (scenes done, scenes in all, name) after each.

    Returns:
        How many scenes were written now.

    Raises:
        InputError: an unreadable scene, values that the precision cannot hold, a folder that holds something else or
            cannot be written.
    """
    root = Path(output)
    if root.is_dir() and any(root.iterdir()) and not is_store(root):
        raise InputError(f"{root}: holds something other than a store; give another folder")
    parts: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    written, total = 0, len(dataset.train) + len(dataset.valid)
    try:
        (root / "scenes").mkdir(parents=True, exist_ok=True)
        _write_manifest(root, {"dataset": dataset.name, "finished": False})
        for begun in (root / "scenes").glob(".*"):  # by a process that was killed
            shutil.rmtree(begun, ignore_errors=True)
        for part, source in (("train", dataset.train), ("valid", dataset.valid)):
            for index, name in enumerate(source.names):
                key = f"{source.scene_key(index)} {precision if part == 'train' else 'exact'} {FORMAT}"
                record = _kept(root / "scenes" / name, key)
                if record is None:
                    record, written = _write_scene(root, source, index, part, precision, key), written + 1
                parts[part].append(asdict(record))
                progress(sum(map(len, parts.values())), total, name)
        _write_manifest(root, _manifest(dataset, parts))
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror or error})") from error
    return written


def _kept(folder: Path, source: str) -> SceneRecord | None:
    """The record of a scene that is there already and was made from the same files in the same way."""
    path = folder / "scene.json"
    try:
        with reading(path, "a scene's record"):
            record = SceneRecord.from_json(json.loads(path.read_text()))
    except InputError:
        return None
    return record if record.source == source else None


def _write_scene(root: Path, source: SceneSource, index: int, part: str, precision: Precision, key: str) -> SceneRecord:
    assert isinstance(source, SceneSource)  # every source there is
    scene = source.read(index)  # past the cache: it is wanted once
    if part == "train":
        scene = compact(scene, precision)
    folder = root / "scenes" / scene.name
    unfinished = folder.with_name(f".{uuid.uuid4().hex}")
    unfinished.mkdir()
    try:
        sums = {}
        for name, array in (("rgb.npy", scene.rgb), ("cube.npy", scene.cube)):
            contiguous = np.ascontiguousarray(array)
            np.save(unfinished / name, contiguous)
            sums[name] = hashlib.sha256(contiguous.data).hexdigest()
        size = (scene.cube.shape[0], scene.cube.shape[1])
        record = SceneRecord(scene.name, size, scene.cube.dtype.name, scene.unit, scene.rgb_range, sums, key)
        (unfinished / "scene.json").write_text(json.dumps(asdict(record), indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return record


def compact(scene: CodedScene, precision: Precision) -> CodedScene:
    """A scene with its cube in two bytes a value; integers stay as they are.

    uint16: code = round(65535 · value / largest value), and 1 where that would make 0 of a positive value: relative
    errors would be infinite there.

    Raises:
        InputError: negative values for uint16, or values beyond float16.
    """
    if scene.cube.dtype.kind == "u":
        return scene
    low, high = float(scene.cube.min()), float(scene.cube.max())
    if precision == "float16":
        if max(-low, high) > float(np.finfo(np.float16).max):
            raise InputError(f"scene {scene.name}: values up to {max(-low, high):g} do not fit float16")
        return replace(scene, cube=scene.cube.astype(np.float16))
    if low < 0:
        raise InputError(f"scene {scene.name}: values down to {low:g} do not fit uint16; prepare with --dtype float16")
    unit = np.float32(65535 / high if high > 0 else 65535)
    codes = np.rint(scene.cube * unit)
    codes[(codes == 0) & (scene.cube > 0)] = 1
    return replace(scene, cube=np.minimum(codes, 65535).astype(np.uint16), unit=float(unit) * scene.unit)


def _manifest(dataset: Dataset, parts: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    source = dataset.train
    return {
        "format": FORMAT,
        "dataset": dataset.name,
        "finished": True,
        "wavelengths": source.wavelengths.tolist(),
        "rgb_normalization": source.rgb_normalization,
        "camera": source.camera_name,
        "missing": list(dataset.missing),
        **parts,
    }


def _write_manifest(root: Path, values: Mapping[str, Any]) -> None:
    with written_whole(root / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(values, indent=1) + "\n")


def is_store(root: str | os.PathLike[str]) -> bool:
    """Whether a folder is a store, finished or not."""
    return bool(root) and (Path(root) / MANIFEST).is_file()


def open_store(
    root: str | os.PathLike[str], name: str, *, split_file: str | os.PathLike[str] = "", camera: str = ""
) -> Dataset:
    """Opens what `prepare` wrote.

    Args:
        root: the store's folder.
        name: the data set that is expected in it.
        split_file: see `m3sr_jax.data.splits.read_split`; "": the parts as prepared.
        camera: must be the store's own, or "".

    Raises:
        InputError: an unfinished store, or one of another data set or camera.
    """
    folder = Path(root)
    with reading(folder / MANIFEST, "a store's manifest"):
        values = json.loads((folder / MANIFEST).read_text())
        if not values["finished"]:
            raise InputError(f"{folder}: an unfinished store; run the same `m3sr prepare` again, it goes on")
        records = {part: {record["name"]: SceneRecord.from_json(record) for record in values[part]} for part in PARTS}
        wavelengths = np.array(values["wavelengths"], np.float64)
        facts = values["dataset"], values["camera"], values["rgb_normalization"]
        missing = tuple(map(str, list(values.get("missing", []))))
        if wavelengths.ndim != 1 or not (np.diff(wavelengths) > 0).all() or not np.isfinite(wavelengths).all():
            raise ValueError(f"wavelengths {values['wavelengths']}")
        if not isinstance(facts[1], str) or facts[2] not in RGB_NORMALIZATIONS:
            raise ValueError(f"camera {facts[1]!r} and rgb_normalization {facts[2]!r}")
    if facts[0] != name:
        raise InputError(f"{folder}: holds {facts[0]}, but data.name is {name}")
    if camera and Path(camera).stem != facts[1]:
        raise InputError(f"{folder}: was prepared with the photos of {facts[1]}, not {camera}; prepare another store")
    split = {part: list(records[part]) for part in PARTS}
    if split_file:
        split = read_split(split_file, split)
    every = {name: record for part in PARTS for name, record in records[part].items()}
    present, _ = present_scenes(folder, split, dict.fromkeys(every, ()), strict=True)
    opened = []
    for part in PARTS:
        scenes = tuple(every[name] for name in present[part])
        sums = [sum for record in scenes for sum in record.sha256.values()]
        opened.append(
            SceneSource(
                [record.name for record in scenes],
                [record.size for record in scenes],
                StoreReader(folder / "scenes", scenes, len(wavelengths)),
                wavelengths=wavelengths,
                camera_name=facts[1],
                rgb_normalization=facts[2],
                fingerprint=f"{name}-{fingerprint(sums)}",
                cache_bytes=0,  # the system's page cache is the cache
            )
        )
    return Dataset(name, opened[0], opened[1], missing=missing)


@dataclass(frozen=True)
class StoreReader:
    """Scene index → the scene as memory maps, which end with the last view of them."""

    folder: Path
    scenes: tuple[SceneRecord, ...]
    num_bands: int

    def __call__(self, index: int) -> CodedScene:
        record = self.scenes[index]
        rgb = self._mapped(record, "rgb.npy", np.dtype(np.uint8), 3)
        cube = self._mapped(record, "cube.npy", np.dtype(record.dtype), self.num_bands)
        return CodedScene(record.name, rgb, cube, record.rgb_range, record.unit)

    def _mapped(self, record: SceneRecord, name: str, dtype: np.dtype, channels: int) -> np.ndarray:
        path = self.folder / record.name / name
        shape = (*record.size, channels)
        expected = NPY_HEADER_BYTES + dtype.itemsize * shape[0] * shape[1] * shape[2]
        with reading(path, "an array of the store; prepare it again"):
            found = path.stat().st_size
            if found != expected:
                raise InputError(
                    f"{path}: has {found} bytes, expected {expected} for {dtype} {shape}; prepare it again"
                )
            # Ten times as fast as np.load, which parses the header; and crops are many.
            return np.memmap(path, dtype, "r", NPY_HEADER_BYTES, shape)

    def verify(self, index: int) -> None:
        """Compares a scene's arrays with their checksums.

        Raises:
            InputError: they differ.
        """
        scene, record = self(index), self.scenes[index]
        for name, array in (("rgb.npy", scene.rgb), ("cube.npy", scene.cube)):
            if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != record.sha256[name]:
                path = self.folder / record.name / name
                raise InputError(
                    f"{path}: its bytes have changed since it was prepared; remove {path.parent} and prepare again"
                )
