"""Prepared data sets: one folder of arrays for memory-mapping, written once by `m3sr prepare`.

    STORE/manifest.json           data set, bands and parts; "finished" is false until all scenes are written
    STORE/scenes/NAME/rgb.npy     (H, W, 3) uint8
    STORE/scenes/NAME/cube.npy    (H, W, S); training scenes uint16 (value = code / unit) or float16, held-out scenes
                                  with the precision of their files, mostly float32, so that scores stay the same
    STORE/scenes/NAME/scene.json  ranges, checksums, and what the scene was made from

A scene's folder appears whole or not at all, so an interrupted preparation resumes with the next scene. What a scene
was made from includes the sizes and modification times of its files: a changed file is prepared again. A crop reads
only its own pages: the operating system shares and drops them, and no process holds the data set in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.data.camera import BUILT_IN, Shot, load_camera, quantise
from m3sr_jax.data.manifest import ARRAY_FILES, FORMAT, MANIFEST, Manifest, SceneRecord, read_manifest
from m3sr_jax.data.scenes import CodedScene, Dataset, Precision, SceneSource, compact, decode, fingerprint
from m3sr_jax.data.splits import PARTS, present_scenes, read_split
from m3sr_jax.errors import InputError, shortened
from m3sr_jax.io.files import reading, written_folder, written_whole
from m3sr_jax.io.wavelengths import same_bands, span

NPY_HEADER_BYTES = 128  # as np.save writes it for arrays as simple as these
Progress = Callable[[int, int], None]


def prepare(
    dataset: Dataset,
    output: str | os.PathLike[str],
    *,
    precision: Precision = "uint16",
    progress: Progress = lambda done, total: None,
) -> int:
    """Writes a data set as a store; scenes that an earlier run wrote from the same files are kept.

    Args:
        dataset: as opened from its download.
        output: the store's folder.
        precision: of training cubes whose files hold floats; integers are stored unchanged. uint16: an absolute error
            of at most 1/131070 of the scene's largest value, or twice that for positive values that would become 0;
            float16: a relative error of at most 1/2048, negative values allowed.
        progress: called with (scenes done, total scenes) after each scene.

    Returns:
        The number of scenes written by this call.

    Raises:
        InputError: a scene is unreadable, `precision` cannot hold its values, or the folder cannot be written or holds
            something else, another data set, other bands, or scenes that this one lacks.
    """
    root = Path(output)
    _check_output(root, dataset)
    records: dict[str, list[SceneRecord]] = {part: [] for part in PARTS}
    written, total = 0, len(dataset.train) + len(dataset.valid)
    try:
        (root / "scenes").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror})") from error
    bands = dataset.train.wavelengths.tolist()
    _write_manifest(root, {"dataset": dataset.name, "wavelengths": bands, "finished": False})
    for unfinished in (root / "scenes").glob(".*"):  # left by a killed process
        shutil.rmtree(unfinished, ignore_errors=True)
    for part, source in (("train", dataset.train), ("valid", dataset.valid)):
        for index, name in enumerate(source.names):
            key = f"{source.scene_key(index)} {precision if part == 'train' else 'exact'} {FORMAT}"
            record = _written_record(root / "scenes" / name, key, len(bands))
            if record is None:
                scene = source.read(index)  # not through the cache: it is needed once
                scene = compact(scene, precision) if part == "train" else scene
                record, written = _write_scene(root, scene, key), written + 1
            records[part].append(record)
            progress(sum(map(len, records.values())), total)
    train = dataset.train
    matrix = train.take.matrix.tolist() if isinstance(train.take, Shot) else []
    facts = bands, train.rgb_normalization, train.camera_name, matrix, list(dataset.missing)
    _write_manifest(root, asdict(Manifest(dataset.name, *facts, **records)) | {"format": FORMAT, "finished": True})
    return written


def _check_output(root: Path, dataset: Dataset) -> None:
    """Refuses a folder that holds anything but a store of this data set, or scenes that the data set lacks."""
    if not root.is_dir() or not any(root.iterdir()):
        return
    if not is_store(root):
        raise InputError(f"{root}: holds something other than a store; choose another folder")
    path = root / MANIFEST
    with reading(path, "a store's manifest; choose another folder"):
        manifest = json.loads(path.read_text())
        held, bands = str(manifest["dataset"]), np.array([float(nm) for nm in manifest.get("wavelengths", [])])
    if held != dataset.name:
        raise InputError(f"{root}: holds a store of {held}; expected one of {dataset.name}: choose another folder")
    expected = dataset.train.wavelengths
    if len(bands) and not same_bands(bands, expected):
        found = f"holds {len(bands)} bands of {span(bands)}; expected {len(expected)} of {span(expected)}"
        raise InputError(f"{root}: {found}: choose another folder, or remove this one")
    if others := sorted(stored_scenes(root) - {*dataset.train.names, *dataset.valid.names}):
        found = f"holds scenes that this selection of {held} lacks, {shortened(others, 5)}"
        raise InputError(f"{root}: {found}; choose another folder, or remove this one")


def stored_scenes(root: str | os.PathLike[str]) -> set[str]:
    """Returns the names of the scenes in a store, finished or not."""
    return {path.parent.name for path in Path(root).glob("scenes/[!.]*/scene.json")}


def _written_record(folder: Path, source: str, bands: int) -> SceneRecord | None:
    """Returns the record of a scene that an earlier run wrote from the same files in the same way, if it is whole."""
    path = folder / "scene.json"
    try:
        with reading(path, "a scene's record"):
            record = SceneRecord.from_json(json.loads(path.read_text()))
        if record.source != source:
            return None
        StoreReader(folder.parent, (record,), bands)(0)
    except InputError:
        return None
    return record


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
    store = read_manifest(folder)
    if store.dataset != name:
        raise InputError(f"{folder}: holds {store.dataset}, but data.name is {name}")
    if camera and not _took_photos(camera, store):
        found = f"another {store.camera}" if Path(camera).stem == store.camera else store.camera
        raise InputError(f"{folder}: found photos of {found}; expected those of {camera}: prepare another store")
    split = {"train": [record.name for record in store.train], "valid": [record.name for record in store.valid]}
    if split_file:
        split = read_split(split_file, split, required=required)
    records = {record.name: record for record in (*store.train, *store.valid)}
    present, _ = present_scenes(folder, split, dict.fromkeys(records, ()), strict=True, required=required)
    train, valid = (_open_part(folder, store, [records[name] for name in present[part]]) for part in PARTS)
    notes = ("scenes and split as prepared",) if name == "folder" and not split_file else ()
    return Dataset(name, train, valid, missing=tuple(store.missing), notes=notes)


def _took_photos(camera: str, store: Manifest) -> bool:
    """Tells whether a camera would render the store's photos; where the store has no matrix, its name has to do."""
    if not store.camera_matrix:
        return Path(camera).stem == store.camera
    # The same curves, written by another program, may differ by rounding.
    return np.allclose(load_camera(camera).matrix(np.array(store.wavelengths)), store.camera_matrix)


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
