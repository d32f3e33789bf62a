"""Opens the data set that a configuration names."""

from __future__ import annotations

from m3sr_jax.config import DataConfig
from m3sr_jax.data.arad import LAYOUTS, open_arad
from m3sr_jax.data.camera import DEFAULT_CAMERA
from m3sr_jax.data.cave import open_cave
from m3sr_jax.data.scenes import CACHE_BYTES, Dataset
from m3sr_jax.data.store import is_store, open_store
from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic
from m3sr_jax.errors import InputError


def open_dataset(config: DataConfig, faults: list[str] | None = None, *, cache_bytes: int = CACHE_BYTES) -> Dataset:
    """Opens the data set that a configuration names: synthetic, as downloaded, or written by `m3sr prepare`.

    Files are found and their headers read at once; pixels are read on first use.

    Args:
        config: `name` "synthetic", "cave", "ntire2022", "ntire2020_clean" or "ntire2020_real"; for the other fields see
            `m3sr_jax.data.synthetic.open_synthetic`, `m3sr_jax.data.cave.open_cave` and
            `m3sr_jax.data.arad.open_arad`. A `root` that holds a manifest is a prepared store.
        faults: receives a message for each unusable scene, which is then left out; None: such a scene raises.
        cache_bytes: memory for the most recently used scenes of each part, where they are read from a download.

    Raises:
        InputError: the name is unknown, or data are missing or unusable.
    """
    camera = config.camera or DEFAULT_CAMERA
    if config.name == "synthetic":
        side = config.scene_size
        spec = SyntheticSpec(config.num_train_scenes, config.num_valid_scenes, side, side, camera)
        return open_synthetic(spec, config.root)
    if is_store(config.root):
        return open_store(config.root, config.name, split_file=config.split_file, camera=config.camera)
    if config.name == "cave":
        return open_cave(
            config.root, split_file=config.split_file, camera=camera, cache_bytes=cache_bytes, faults=faults
        )
    if config.name in LAYOUTS:
        layout, fields = LAYOUTS[config.name], {"cache_bytes": cache_bytes, "faults": faults}
        return open_arad(layout, config.root, split_file=config.split_file, camera=config.camera, **fields)
    expected = ", ".join(["synthetic", "cave", *LAYOUTS])
    raise InputError(f'data.name: found "{config.name}"; expected one of {expected}')
