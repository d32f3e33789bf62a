"""Opens the data set that a configuration names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3sr_jax.config import DataConfig
from m3sr_jax.data.arad import LAYOUTS, open_arad
from m3sr_jax.data.camera import DEFAULT_CAMERA
from m3sr_jax.data.cave import open_cave
from m3sr_jax.data.folder import open_folder
from m3sr_jax.data.photo.scenes import PhotoSpec, open_photo
from m3sr_jax.data.scenes import CACHE_BYTES, Dataset
from m3sr_jax.data.splits import PARTS
from m3sr_jax.data.store import is_store, open_store
from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic
from m3sr_jax.errors import InputError

# Data set → what it is called, and the files that belong in its folder.
FILES = {
    "cave": ("CAVE", "the folders beads_ms … watercolors_ms, each with NAME_ms_01.png … NAME_ms_31.png"),
    "ntire2022": (
        "NTIRE 2022 (ARAD_1K)",
        "the cubes ARAD_1K_0001.mat … ARAD_1K_0950.mat and the photos ARAD_1K_0001.jpg … ARAD_1K_0950.jpg",
    ),
    "ntire2020_clean": (
        "NTIRE 2020 Clean",
        "the cubes ARAD_HS_0001.mat … ARAD_HS_0465.mat and the photos ARAD_HS_0001_clean.png … ARAD_HS_0465_clean.png",
    ),
    "ntire2020_real": (
        "NTIRE 2020 Real World",
        "the cubes ARAD_HS_0001.mat … ARAD_HS_0465.mat and the photos ARAD_HS_0001_RealWorld.jpg … "
        "ARAD_HS_0465_RealWorld.jpg",
    ),
    "folder": ("your own data", "photos in photos/ and cubes of the same names in cubes/, or cubes alone"),
}


def open_dataset(
    config: DataConfig,
    faults: list[str] | None = None,
    *,
    cache_bytes: int = CACHE_BYTES,
    required: Sequence[str] = PARTS,
) -> Dataset:
    """Opens the data set that a configuration names: made, as downloaded, or written by `m3sr prepare`.

    Files are found and their headers read at once; pixels are read on first use.

    Args:
        config: `name` "synthetic", "cave", "ntire2022", "ntire2020_clean", "ntire2020_real", "folder" or "photo"; for
            the other fields see the functions `open_synthetic`, `open_cave`, `open_arad`, `open_folder` and
            `open_photo` of their modules. A `root` that holds a manifest is a prepared store; without a `root`, see
            `located`.
        faults: receives a message for each unusable scene, which is then left out; None: such a scene raises.
        cache_bytes: memory for the most recently used scenes of each part, where they are read from a download.
        required: the parts, of "train" and "valid", that must not be empty.

    Raises:
        InputError: the name is unknown, or data are missing or unusable.
    """
    camera = config.camera or DEFAULT_CAMERA
    generated = config.num_train_scenes, config.num_valid_scenes, config.scene_size, config.scene_size
    if config.name == "synthetic":
        return open_synthetic(SyntheticSpec(*generated, camera=camera), config.root)
    if config.name == "photo":
        return open_photo(PhotoSpec(*generated), config.root)
    if config.name not in FILES:
        raise InputError(
            f'data.name: found "{config.name}"; expected one of {", ".join(["synthetic", *FILES, "photo"])}'
        )
    config = located(config)
    root, split_file = config.root, config.split_file
    unused = {f"{config.name} has scenes of its own": config.changed("made")}
    options: Any = {"cache_bytes": cache_bytes, "faults": faults, "required": required}
    if is_store(root):
        dataset = open_store(root, config.name, split_file=split_file, camera=config.camera, required=required)
        unused[f"{root} was prepared before"] = config.changed("folder")
    elif config.name == "folder":
        dataset = open_folder(config, **options)
    elif config.name == "cave":
        dataset = open_cave(root, split_file=split_file, camera=camera, **options)
    else:
        dataset = open_arad(LAYOUTS[config.name], root, split_file=split_file, camera=config.camera, **options)
    notes = (
        f"{', '.join(f'data.{field.name}' for field in fields)} not used: {reason}"
        for reason, fields in unused.items()
        if fields
    )
    return dataclasses.replace(dataset, notes=(*dataset.notes, *notes))


def located(config: DataConfig) -> DataConfig:
    """Fills in an unset `root`: $M3SR_DATA/NAME if that variable is set, else data/NAME.

    Synthetic scenes have a cache of their own, and a folder whose cubes are named needs no root.

    Raises:
        InputError: the folder does not exist; the message says which files belong there.
    """
    if config.name not in FILES or (config.name == "folder" and config.cubes and not config.root):
        return config
    root = Path(config.root or Path(os.environ.get("M3SR_DATA") or "data") / config.name)
    if not root.is_dir():
        title, files = FILES[config.name]
        raise InputError(
            f'data.root "{root}": no such folder; expected {title} there: {files}, as downloaded or as a store of m3sr '
            f"prepare (docs/data.md). If they are elsewhere, set M3SR_DATA to the folder that has {config.name} in it, "
            "or pass --config.data.root=DIR to train.py and --data-root DIR to m3sr"
        )
    return dataclasses.replace(config, root=str(root))
