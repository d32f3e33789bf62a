"""The data set "photo": simulated photos with their reflectances, made on first use and kept on disk.

The target is reflectance relative to the photo's white, with shading, scaled by one factor per photo so that the cube
under D65, seen by the CIE 1931 observer, comes nearest to the decoded photo. Photos are stored as sRGB codes and served
linear. Pigments of training and validation scenes are disjoint.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from m3sr_jax.data.generated import Made, SceneSpec, open_generated
from m3sr_jax.data.photo.develop import draw_settings, take_photo, target_scale
from m3sr_jax.data.photo.surfaces import Pigments
from m3sr_jax.data.rendering import radiance
from m3sr_jax.data.scenes import Dataset
from m3sr_jax.io.wavelengths import BANDS

PIGMENTS_PER_SCENE = 64
SCALE = "white of the photo"


@dataclasses.dataclass(frozen=True)
class PhotoSpec(SceneSpec):
    """Which photos to make."""

    NAME, VERSION = "photo", 2

    num_train: int = 400
    num_valid: int = 40


def open_photo(spec: PhotoSpec, root: str | os.PathLike[str] = "") -> Dataset:
    """Opens the photos of `spec`, see `open_generated`."""

    def make(pigments: Pigments, index: int, rng: np.random.Generator) -> Made:
        name, codes, target = simulated_photo(pigments, rng, spec.height, spec.width)
        return f"{index:04d}_{name.replace(' ', '_')}", codes, target

    facts = {"camera_name": "simulated", "encoding": "linear", "quantity": "reflectance", "scale": SCALE}
    return open_generated(spec, root, make, prepare=Pigments.of, stored="srgb", **facts)


def simulated_photo(pigments: Pigments, rng: np.random.Generator, height: int, width: int) -> Made:
    """Makes one photo.

    Returns:
        camera and light; the sRGB codes; the target, clipped to [0, 1] where the photo is clipped as well.
    """
    settings = draw_settings(rng)
    scene = radiance(rng, pigments.draw(PIGMENTS_PER_SCENE, rng), np.ones(len(BANDS)), height, width)
    codes = take_photo(scene, settings, rng)
    return settings.name, codes, np.minimum(scene * np.float32(target_scale(scene, codes)), 1)
