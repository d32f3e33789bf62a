"""Scenes on disk, cameras, and the input pipeline."""

from m3sr_jax.data.scenes import Dataset as Dataset
from m3sr_jax.data.scenes import Scene as Scene
from m3sr_jax.data.scenes import SceneSource as SceneSource
from m3sr_jax.data.scenes import open_dataset as open_dataset
