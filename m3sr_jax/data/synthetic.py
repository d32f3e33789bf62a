"""Synthetic scenes: measured reflectances under real lamps, seen by a camera; made on first use and kept on disk.

The target cube is radiance (reflectance × illuminant × shading) scaled to [0, 1] per scene, as in ARAD. Reflectances of
training and validation scenes are disjoint, and the light changes from scene to scene: the spectrum behind a colour
depends on the light, which only the rest of the scene reveals.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from m3sr_jax.data.camera import DEFAULT_CAMERA, Camera, Shot, camera_identity, load_camera, quantise
from m3sr_jax.data.generated import Made, SceneSpec, open_generated
from m3sr_jax.data.rendering import radiance
from m3sr_jax.data.scenes import Dataset
from m3sr_jax.data.spectra import FAMILIES, illuminant
from m3sr_jax.io.wavelengths import BANDS

# A small sensor indoors: electrons at rgb = 1, and read noise in electrons.
FULL_WELL, READ_NOISE = 1000.0, 4.0


@dataclasses.dataclass(frozen=True)
class SyntheticSpec(SceneSpec):
    """Which scenes to make, with `camera` as for `load_camera`."""

    NAME, VERSION = "synthetic", 2

    num_train: int = 160
    num_valid: int = 12
    camera: str = DEFAULT_CAMERA

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"camera": camera_identity(self.camera)}


def open_synthetic(spec: SyntheticSpec, root: str | os.PathLike[str] = "") -> Dataset:
    """Opens the scenes of `spec`, see `open_generated`."""
    camera = load_camera(spec.camera)

    def make(spectra: np.ndarray, index: int, rng: np.random.Generator) -> Made:
        name, light = illuminant(FAMILIES[index % len(FAMILIES)], rng)
        cube = radiance(rng, spectra, light, spec.height, spec.width)
        return f"{index:03d}_{name}", photograph(cube, camera, rng), cube

    return open_generated(spec, root, make, camera_name=camera.name, take=NoisyShot(camera.matrix(BANDS)))


@dataclasses.dataclass(frozen=True)
class NoisyShot(Shot):
    """Takes photos with shot noise (Poisson, 1000 electrons at 1) and read noise (4 electrons)."""

    def __call__(self, cube: Float32[np.ndarray, "H W S"], rng: np.random.Generator) -> Float64[np.ndarray, "H W 3"]:
        electrons = rng.poisson(super().__call__(cube, rng) * FULL_WELL)
        return (electrons + rng.normal(0, READ_NOISE, electrons.shape)) / FULL_WELL


def photograph(
    cube: Float32[np.ndarray, "H W 31"], camera: Camera, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Takes an 8-bit photo of a cube with shot noise (Poisson, 1000 electrons at 1) and read noise (4 electrons)."""
    return quantise(NoisyShot(camera.matrix(BANDS))(cube, rng))
