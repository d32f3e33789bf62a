"""Augmentation of training photos: exposure, light, noise and JPEG compression, each drawn anew for every crop.

Exposure changes cube and photo alike, before the photo is clipped and rounded to 8 bits: where a camera renders a data
set's photos it takes another photo of the brighter or darker cube, and where photos are files their codes are scaled
and rounded again. Light does the same with a factor for each band. Noise and compression change the photo alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from m3sr_jax.config import DataConfig
from m3sr_jax.data.camera import quantise
from m3sr_jax.data.scenes import CodedScene, PerBand, SceneSource, TakePhoto, decode
from m3sr_jax.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a crop; see `DataConfig`.

    Attributes:
        take: takes a photo of a cube; None where photos are files.
        probability: of each change that is on.
        exposure: range of the exponent of 2; empty for none.
        light: standard deviation of the log of the light's factors, see `drawn_light`.
        noise: largest standard deviation of the noise, as a share of white; each crop has its own.
        jpeg_quality: range of the quality; empty for none.
    """

    take: TakePhoto | None = None
    probability: float = 0.5
    exposure: tuple[float, ...] = ()
    light: float = 0.0
    noise: float = 0.0
    jpeg_quality: tuple[int, ...] = ()

    def __call__(self, scene: CodedScene, rng: np.random.Generator) -> tuple[CodedScene, Bool[np.ndarray, "H W"]]:
        """Returns the changed scene, and where exposure or noise drove its photo out of range, which hides the colour.

        Args:
            scene: a crop as it is stored; its arrays are not changed.
            rng: source of all draws.
        """
        happens = rng.random(3) < self.probability
        factor: PerBand = 1.0
        if self.exposure and happens[0]:
            factor = float(2.0 ** rng.uniform(self.exposure[0], self.exposure[1]))
        noise = rng.uniform(0, self.noise) if happens[1] else 0.0
        quality = 0
        if self.jpeg_quality and happens[2]:
            quality = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1], endpoint=True))
        if self.light and rng.random() < self.probability:
            factor *= drawn_light(scene.cube.shape[-1], self.light, rng)
        clipped = np.zeros(scene.rgb.shape[:2], bool)
        if np.any(factor != 1) or noise:
            scene, clipped = exposed(scene, factor, self.take, rng, noise)
        if quality:
            scene = replace(scene, rgb=compressed(scene.rgb, quality))
        return scene, clipped


def make_augmentation(config: DataConfig, source: SceneSource) -> Augmentation | None:
    """Returns the augmentation that a configuration asks for, None if it asks for none.

    Raises:
        InputError: exposure or light is on, and the photos are normalised in a way that undoes it; light is on, and no
            camera takes the photos; or the photos are simulated.
    """
    if not (config.exposure or config.light or config.noise or config.jpeg_quality):
        return None
    if source.encoding != "codes":
        raise InputError(
            f"config fields data.exposure, data.light, data.noise, data.jpeg_quality: {config.name} simulates them "
            "already; expected them unset"
        )
    for field in ("exposure", "light"):
        if getattr(config, field):
            check_exposure(f"config field data.{field}", config.name, source)
    if config.light and source.take is None:
        raise InputError(
            f"config field data.light: photos of {config.name} are files, which show no other light; expected it "
            "unset, or a data.camera that takes the photos"
        )
    options = config.exposure, config.light, config.noise, config.jpeg_quality
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


def drawn_light(bands: int, spread: float, rng: np.random.Generator) -> Float64[np.ndarray, " S"]:
    """Draws a smooth factor for each band, as another light would have: exp(spread · Σₖ zₖ cos(kπx)), k = 1, 2, 3.

    Args:
        bands: S; x runs from 0 at the first to 1 at the last.
        spread: standard deviation of each wave.
        rng: of the three normal numbers zₖ.
    """
    waves = np.cos(np.pi * np.arange(1, 4)[:, None] * np.linspace(0, 1, bands))
    return np.exp(spread * rng.standard_normal(3) @ waves)


def exposed(
    scene: CodedScene, exposure: PerBand, take: TakePhoto | None, rng: np.random.Generator, noise: float = 0.0
) -> tuple[CodedScene, Bool[np.ndarray, "H W"]]:
    """Takes a scene's photo with another exposure.

    Args:
        scene: photo and cube as they are stored.
        exposure: factor of the light, or one for each band, which only a camera can show.
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
