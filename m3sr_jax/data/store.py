"""Prepared data sets: one folder of arrays for memory-mapping, written once by `m3sr prepare`.

    STORE/manifest.json           data set, bands and parts; "finished" is false until all scenes are written
    STORE/scenes/NAME/rgb.npy     (H, W, 3) uint8
    STORE/scenes/NAME/cube.npy    (H, W, S); training scenes uint16 (value = code / unit) or float16, held-out scenes
                                  with the precision of their files, mostly float32, so that scores stay the same
    STORE/scenes/NAME/scene.json  ranges, checksums, and a hash of what the scene was made from

A scene's folder appears whole or not at all, so an interrupted preparation resumes with the next scene. A crop reads
only its own pages: the operating system shares and drops them, and no process holds the data set in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.data.camera import BUILT_IN, Shot, load_camera, quantise
from m3sr_jax.data.scenes import CodedScene, Dataset, Precision, SceneSource, compact, decode, fingerprint
from m3sr_jax.data.splits import PARTS, present_scenes, read_split
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading, written_folder, written_whole
from m3sr_jax.io.normalization import RGB_NORMALIZATIONS
from m3sr_jax.io.wavelengths import check_wavelengths

MANIFEST = "manifest.json"
FORMAT = 1
ARRAY_FILES = ("rgb.npy", "cube.npy")
CUBE_TYPES = ("uint16", "float16", "float32")
NPY_HEADER_BYTES = 128  # as np.save writes it for arrays as simple as these
Progress = Callable[[int, int, str], None]


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
    """What the manifest says of a finished store; `missing` as in `m3sr_jax.data.scenes.Dataset`."""

    dataset: str
    wavelengths: list[float]
    rgb_normalization: str
    camera: str
    missing: list[str]
    train: list[SceneRecord]
    valid: list[SceneRecord]


def prepare(
    dataset: Dataset,
    output: str | os.PathLike[str],
    *,
    precision: Precision = "uint16",
    progress: Progress = lambda done, total, name: None,
) -> int:
    """Writes a data set as a store; scenes from an earlier, interrupted run are kept.

    Args:
        dataset: as opened from its download.
        output: the store's folder.
        precision: of training cubes whose files hold floats; integers are stored unchanged. uint16: an absolute error
            of at most 1/131070 of the scene's largest value, or twice that for positive values that would become 0;
            float16: a relative error of at most 1/2048, negative values allowed.
        progress: called with (scenes done, total scenes, name) after each scene.

    Returns:
        The number of scenes written by this call.

    Raises:
        InputError: a scene is unreadable, `precision` cannot hold its values, or the folder holds something else or
            cannot be written.
    """
    root = Path(output)
    if root.is_dir() and any(root.iterdir()) and not is_store(root):
        raise InputError(f"{root}: holds something other than a store; choose another folder")
    records: dict[str, list[SceneRecord]] = {part: [] for part in PARTS}
    written, total = 0, len(dataset.train) + len(dataset.valid)
    try:
        (root / "scenes").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror})") from error
    _write_manifest(root, {"dataset": dataset.name, "finished": False})
    for unfinished in (root / "scenes").glob(".*"):  # left by a killed process
        shutil.rmtree(unfinished, ignore_errors=True)
    for part, source in (("train", dataset.train), ("valid", dataset.valid)):
        for index, name in enumerate(source.names):
            key = f"{source.scene_key(index)} {precision if part == 'train' else 'exact'} {FORMAT}"
            record = _written_record(root / "scenes" / name, key)
            if record is None:
                scene = source.read(index)  # not through the cache: it is needed once
                scene = compact(scene, precision) if part == "train" else scene
                record, written = _write_scene(root, scene, key), written + 1
            records[part].append(record)
            progress(sum(map(len, records.values())), total, name)
    train = dataset.train
    facts = train.wavelengths.tolist(), train.rgb_normalization, train.camera_name, list(dataset.missing)
    _write_manifest(root, asdict(Manifest(dataset.name, *facts, **records)) | {"format": FORMAT, "finished": True})
    return written


def _written_record(folder: Path, source: str) -> SceneRecord | None:
    """Returns the record of a scene that an earlier run wrote from the same files in the same way."""
    path = folder / "scene.json"
    try:
        with reading(path, "a scene's record"):
            record = SceneRecord.from_json(json.loads(path.read_text()))
    except InputError:
        return None
    return record if record.source == source else None


def _write_scene(root: Path, scene: CodedScene, key: str) -> SceneRecord:
    with written_folder(root / "scenes" / scene.name) as folder:
        sums = {}
        for name, array in zip(ARRAY_FILES, (scene.rgb, scene.cube), strict=True):
            contiguous = np.ascontiguousarray(array)
            np.save(folder / name, contiguous)
            sums[name] = hashlib.sha256(contiguous.data).hexdigest()
        size = (scene.cube.shape[0], scene.cube.shape[1])
        record = SceneRecord(scene.name, size, scene.cube.dtype.name, scene.unit, scene.rgb_range, sums, key)
        (folder / "scene.json").write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record


def _write_manifest(root: Path, values: Mapping[str, Any]) -> None:
    with written_whole(root / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(values, indent=1) + "\n")


def is_store(root: str | os.PathLike[str]) -> bool:
    """Tells whether a folder is a store, finished or not."""
    return bool(root) and (Path(root) / MANIFEST).is_file()


def _read_manifest(folder: Path) -> Manifest:
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
        missing = [str(name) for name in list(values.get("missing", []))]
        records = {part: [SceneRecord.from_json(record) for record in values[part]] for part in PARTS}
        return Manifest(values["dataset"], wavelengths, normalization, camera, missing, **records)


def open_store(
    root: str | os.PathLike[str],
    name: str,
    *,
    split_file: str | os.PathLike[str] = "",
    camera: str = "",
    required: Sequence[str] = PARTS,
) -> Dataset:
    """Opens what `prepare` wrote.

    Args:
        root: the store's folder.
        name: the data set that the store must hold.
        split_file: see `m3sr_jax.data.splits.read_split`; "": the parts as prepared.
        camera: the store's own camera, or "".
        required: the parts that must not be empty.

    Raises:
        InputError: the store is unfinished, damaged, or of another format, data set or camera.
    """
    folder = Path(root)
    store = _read_manifest(folder)
    if store.dataset != name:
        raise InputError(f"{folder}: holds {store.dataset}, but data.name is {name}")
    if camera and Path(camera).stem != store.camera:
        raise InputError(f"{folder}: found photos of {store.camera}; expected those of {camera}: prepare another store")
    split = {"train": [record.name for record in store.train], "valid": [record.name for record in store.valid]}
    if split_file:
        split = read_split(split_file, split, required=required)
    records = {record.name: record for record in (*store.train, *store.valid)}
    present, _ = present_scenes(folder, split, dict.fromkeys(records, ()), strict=True, required=required)
    train, valid = (_open_part(folder, store, [records[name] for name in present[part]]) for part in PARTS)
    notes = ("scenes and split as prepared",) if name == "folder" and not split_file else ()
    return Dataset(name, train, valid, missing=tuple(store.missing), notes=notes)


def _open_part(folder: Path, store: Manifest, scenes: list[SceneRecord]) -> SceneSource:
    sums = [sum for record in scenes for sum in record.sha256.values()]
    reader = StoreReader(folder / "scenes", tuple(scenes), len(store.wavelengths))
    return SceneSource(
        [record.name for record in scenes],
        [record.size for record in scenes],
        reader,
        wavelengths=np.array(store.wavelengths, np.float64),
        camera_name=store.camera,
        rgb_normalization=store.rgb_normalization,
        take=_shot(store, reader),
        fingerprint=f"{store.dataset}-{fingerprint(sums)}",
        cache_bytes=0,  # the operating system's page cache is the cache
    )


def _shot(store: Manifest, reader: StoreReader) -> Shot | None:
    """Returns what took the photos, if it is a built-in camera: a manifest only names it, so a photo has to agree."""
    if store.camera not in BUILT_IN or not reader.scenes:
        return None
    shot = Shot(load_camera(store.camera).matrix(np.array(store.wavelengths, np.float64)))
    scene = reader(0).region(slice(0, 64), slice(0, 64))
    photo = quantise(shot(decode(scene.cube, 0, scene.unit), np.random.default_rng(0)))
    # Cubes are rounded when they are prepared, which may move a code of the photo by one.
    return shot if np.abs(photo.astype(int) - scene.rgb).max() <= 1 else None


@dataclass(frozen=True)
class StoreReader:
    """Scene index → the scene as memory maps, which close with their last view."""

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
                    f"{path}: found {found} bytes; expected {expected} for {dtype} {shape}: prepare it again"
                )
            # Ten times as fast as np.load, which parses the header for every crop.
            return np.memmap(path, dtype, "r", NPY_HEADER_BYTES, shape)

    def verify(self, index: int) -> None:
        """Compares a scene's arrays with their checksums.

        Raises:
            InputError: they differ.
        """
        scene, record = self(index), self.scenes[index]
        for name, array in zip(ARRAY_FILES, (scene.rgb, scene.cube), strict=True):
            if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != record.sha256[name]:
                path = self.folder / record.name / name
                raise InputError(
                    f"{path}: its bytes have changed since it was prepared; remove {path.parent} and prepare again"
                )
