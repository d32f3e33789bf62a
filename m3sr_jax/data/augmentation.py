"""Augmentation of training photos: exposure, noise and JPEG compression, each drawn anew for every crop.

Exposure changes cube and photo alike, before the photo is clipped and rounded to 8 bits: where a camera renders a data
set's photos it takes another photo of the brighter or darker cube, and where photos are files their codes are scaled
and rounded again. Noise and compression change the photo alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from m3sr_jax.config import DataConfig
from m3sr_jax.data.camera import quantise
from m3sr_jax.data.scenes import CodedScene, SceneSource, TakePhoto, decode
from m3sr_jax.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a crop; see `DataConfig`.

    Attributes:
        take: takes a photo of a cube; None where photos are files.
        probability: of each change that is on.
        exposure: range of the exponent of 2; empty for none.
        noise: largest standard deviation of the noise, as a share of white; each crop has its own.
        jpeg_quality: range of the quality; empty for none.
    """

    take: TakePhoto | None = None
    probability: float = 0.5
    exposure: tuple[float, ...] = ()
    noise: float = 0.0
    jpeg_quality: tuple[int, ...] = ()

    def __call__(self, scene: CodedScene, rng: np.random.Generator) -> tuple[CodedScene, Bool[np.ndarray, "H W"]]:
        """Returns the changed scene, and where exposure or noise drove its photo out of range, which hides the colour.

        Args:
            scene: a crop as it is stored; its arrays are not changed.
            rng: source of all draws.
        """
        happens = rng.random(3) < self.probability
        exposure = (
            float(2.0 ** rng.uniform(self.exposure[0], self.exposure[1])) if self.exposure and happens[0] else 1.0
        )
        noise = rng.uniform(0, self.noise) if happens[1] else 0.0
        quality = 0
        if self.jpeg_quality and happens[2]:
            quality = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1], endpoint=True))
        clipped = np.zeros(scene.rgb.shape[:2], bool)
        if exposure != 1 or noise:
            scene, clipped = exposed(scene, exposure, self.take, rng, noise)
        if quality:
            scene = replace(scene, rgb=compressed(scene.rgb, quality))
        return scene, clipped


def make_augmentation(config: DataConfig, source: SceneSource) -> Augmentation | None:
    """Returns the augmentation that a configuration asks for, None if it asks for none.

    Raises:
        InputError: exposure is on, and the photos are normalised in a way that undoes it; or the photos are simulated.
    """
    if not (config.exposure or config.noise or config.jpeg_quality):
        return None
    if source.encoding != "codes":
        raise InputError(
            f"config fields data.exposure, data.noise, data.jpeg_quality: {config.name} simulates all three already; "
            "expected them unset"
        )
    if config.exposure:
        check_exposure("config field data.exposure", config.name, source)
    options = config.exposure, config.noise, config.jpeg_quality
    return Augmentation(source.take, config.augment_probability, *options)


def check_exposure(option: str, dataset: str, source: SceneSource) -> None:
    """Refuses to change the exposure of photos that are normalised by their own minimum and maximum.

    Raises:
        InputError: they are; the message begins with `option`.
    """
    if source.rgb_normalization != "unit":
        raise InputError(
            f"{option}: photos of {dataset} are scaled from their minimum and maximum to [0, 1], which undoes any "
            "exposure; expected it unset"
        )


def exposed(
    scene: CodedScene, exposure: float, take: TakePhoto | None, rng: np.random.Generator, noise: float = 0.0
) -> tuple[CodedScene, Bool[np.ndarray, "H W"]]:
    """Takes a scene's photo with another exposure.

    Args:
        scene: photo and cube as they are stored.
        exposure: factor of the light.
        take: takes a photo of a cube; None scales the codes of the photo.
        rng: of the noise.
        noise: standard deviation of Gaussian noise, as a share of white.

    Returns:
        The scene with a new photo, and with a cube of `exposure` times the values; and the pixels of the photo that
        are clipped.
    """
    if take is None:
        light = decode(scene.rgb) * np.float32(exposure)
        clipped = (scene.rgb == 255).any(-1)  # already: how bright these were is unknown
    else:
        light = take(decode(scene.cube, 0, scene.unit / exposure), rng)
        clipped = np.zeros(light.shape[:2], bool)
    light = light + rng.normal(0, noise, light.shape).astype(np.float32)
    clipped |= (light > 1).any(-1)
    # A cube's values are code / unit, so that its codes stay as they are.
    return replace(scene, rgb=quantise(light), unit=scene.unit / exposure), clipped


def compressed(rgb: UInt8[np.ndarray, "H W 3"], quality: int) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a photo after compression to JPEG and back."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
