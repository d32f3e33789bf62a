"""One's own scenes: photos and cubes matched by name, or cubes alone that a camera takes photos of.

The photos are in ROOT/photos and the cubes in ROOT/cubes, or both anywhere under ROOT. `leaf_01.png` belongs to
`leaf_01.mat`; endings such as `_clean`, `_RealWorld`, `_camera`, `_rgb` and `_hsi` do not count.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from m3sr_jax.config import DataConfig
from m3sr_jax.data.camera import DEFAULT_CAMERA, camera_identity, load_camera
from m3sr_jax.data.pairs import CubeFormat, Pairs, open_pairs
from m3sr_jax.data.scenes import CACHE_BYTES, Dataset
from m3sr_jax.data.splits import PARTS, Split, find_files, present_scenes, read_split, scene_name
from m3sr_jax.errors import InputError, shortened
from m3sr_jax.io.cube_intervals import is_interval
from m3sr_jax.io.cubes import READ_SUFFIXES
from m3sr_jax.io.photos import PHOTO_SUFFIXES
from m3sr_jax.io.wavelengths import parse_wavelengths

# May be photos or cubes: only the folder tells.
AMBIGUOUS = (".tif", ".tiff")


def open_folder(
    config: DataConfig,
    *,
    cache_bytes: int = CACHE_BYTES,
    faults: list[str] | None = None,
    required: Sequence[str] = PARTS,
) -> Dataset:
    """Opens the scenes of a folder: finds the files, matches them by name, splits them and reads their headers.

    Args:
        config: `root`; `photos` and `cubes`, each a folder under it (or elsewhere, as an absolute path) or a pattern of
            file names; `camera`, which renders the photos even if there are some, and cie1964 where there are none;
            `key`, `wavelengths` and `white` for the cubes, `rgb_normalization` for the photos; `split_file`, or
            `valid_fraction` and `split_seed` for a random split.
        cache_bytes: memory for the most recently used scenes of each part.
        faults: as for `m3sr_jax.data.open.open_dataset`, like `required`.
        required: see `faults`.

    Raises:
        InputError: nothing says where photos come from, there are no cubes, no photo belongs to any, two files claim
            one scene, or the split leaves a required part empty; see also `open_pairs`.
    """
    if not (config.root or config.photos or config.camera):
        raise InputError(
            "data.photos: found none, and no data.root to search; expected the folder of the photos (--photos), a root "
            "(--data-root), or a camera that renders photos of the cubes (--camera)"
        )
    root = Path(config.root)
    cubes = _by_scene(root, "cubes", config.cubes, READ_SUFFIXES)
    if not cubes:
        raise InputError(_no_cubes(root, config.cubes))
    photos = {} if config.camera else _photos(root, config.photos, cubes)
    camera = "" if photos else config.camera or DEFAULT_CAMERA
    complete = sorted(cubes.keys() & photos.keys() if photos else cubes)
    parts, notes = _split(root, config, complete, required)
    notes += _unmatched(photos, cubes) if photos else []
    if camera and not config.camera and (root / "photos").is_dir():
        notes.append(f"{root / 'photos'} has no file that is read as a photo: {camera} renders photos of the cubes")
    centres = parse_wavelengths(config.wavelengths)[0].tolist() if config.wavelengths else None
    facts = (config.rgb_normalization, config.key, centres, config.white)
    files = CubeFormat(config.key or None, config.wavelengths or None, config.white)
    with suppress(InputError):  # an unreadable cube is reported below
        notes += files.notes(cubes[complete[0]])
    pairs = Pairs(
        name="folder",
        identity=" ".join(map(str, (camera_identity(camera) if camera else "photos", *facts))),
        photo_camera="photos of the folder",
        rgb_normalization=config.rgb_normalization,
        camera=load_camera(camera) if camera else None,
        cubes=files,
    )
    scenes = {part: [(name, cubes[name], photos.get(name)) for name in parts[part]] for part in PARTS}
    return open_pairs(pairs, scenes, notes=notes, cache_bytes=cache_bytes, faults=faults)


def _by_scene(root: Path, kind: str, chosen: str, suffixes: Sequence[str]) -> dict[str, Path]:
    """Returns scene name → file for the photos or the cubes."""
    chosen = chosen or (kind if (root / kind).is_dir() else "")
    suffixes = [suffix for suffix in suffixes if chosen or suffix not in AMBIGUOUS]
    place = root / chosen
    folder, names = (place, "*") if place.is_dir() else (place.parent, place.name)
    if not folder.is_dir():
        raise InputError(
            f"data.{kind} {chosen}: {folder} does not exist; expected a folder or a pattern of file names (relative to "
            "data.root, or absolute)"
        )
    pattern = rf"(?=.*(?:{'|'.join(map(re.escape, suffixes))})$){fnmatch.translate(names)}"
    found: dict[str, Path] = {}
    for _, path in find_files(folder, pattern):
        if kind == "cubes" and is_interval(path):
            continue
        first = found.setdefault(scene_name(path.name), path)
        if first != path:
            raise InputError(
                f"{root}: found two {kind} of scene {scene_name(path.name)}, {first.name} and {path.name}; choose with "
                f"data.{kind}, a folder or a pattern such as *{path.name.removeprefix(scene_name(path.name))}"
            )
    return found


def _photos(root: Path, chosen: str, cubes: dict[str, Path]) -> dict[str, Path]:
    """Returns scene name → photo; none if there are none and the configuration names none."""
    photos = _by_scene(root, "photos", chosen, PHOTO_SUFFIXES)
    if chosen and not photos:
        raise InputError(
            f"data.photos {chosen}: found no photos there; expected a folder or a pattern of file names (relative to "
            "data.root, or absolute), or a camera that renders photos of the cubes (data.camera)"
        )
    if photos and not photos.keys() & cubes.keys():
        raise InputError(
            f"{root}: no photo has the name of a cube; found photos {shortened(sorted(photos), 3)} and cubes "
            f"{shortened(sorted(cubes), 3)}; rename them, or set data.camera to render photos from the cubes"
        )
    return photos


def _no_cubes(root: Path, chosen: str) -> str:
    where = f"{root}, data.cubes {chosen}" if chosen else str(root)
    tiff = any(True for _ in find_files(root, r".+\.tiff?")) and not chosen
    hint = "; TIFF files may be photos or cubes: name the folders with data.photos and data.cubes" if tiff else ""
    return f"{where}: found no cubes; expected files that end in {', '.join(READ_SUFFIXES)}{hint}"


def _split(root: Path, config: DataConfig, names: list[str], required: Sequence[str]) -> tuple[Split, list[str]]:
    """Splits the scenes by the split file, or at random; also returns a note on a random split."""
    if config.split_file:
        split = read_split(config.split_file, {"train": (), "valid": names}, required=required)
        parts, _ = present_scenes(root, split, dict.fromkeys(names, ()), strict=True, required=required)
        return parts, []
    count = max(1, round(config.valid_fraction * len(names)))
    if "train" in required and count >= len(names):
        raise InputError(
            f"{root}: found {shortened(names)}, too few to hold out {count} and train on the rest; add scenes "
            "or lower data.valid_fraction"
        )
    valid = random_choice(names, count, config.split_seed)
    held_out = f"{count} of {len(names)} held out, {shortened(valid)}"
    parts = {"train": [name for name in names if name not in valid], "valid": valid}
    return parts, [f"split at random by data.split_seed {config.split_seed}: {held_out}"]


def random_choice(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Chooses names by the order of their hashes: the same on every machine, and another scene changes one at most."""
    texts = {name: f"{seed} {name}".encode("utf-8", "surrogateescape") for name in names}  # names may not be Unicode
    ranked = sorted(texts, key=lambda name: hashlib.sha256(texts[name]).digest())
    return sorted(ranked[:count])


def _unmatched(photos: dict[str, Path], cubes: dict[str, Path]) -> list[str]:
    notes = []
    for files, others, lacking in ((photos, cubes, "cube"), (cubes, photos, "photo")):
        alone = sorted(files[name].name for name in files.keys() - others.keys())
        if alone:
            notes.append(f"left out, no {lacking} of the same name: {shortened(alone)}")
    return notes
