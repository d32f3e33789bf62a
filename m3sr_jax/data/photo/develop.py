"""From a scene to the 8-bit sRGB photo of it: exposure, sensor, white balance, colour matrix, tone, JPEG.

raw = scene · (sensitivity × light), each channel 1 for white
lin = clip(gain · (exposure · raw + noise), 0, 1) · matrix
photo = JPEG(round(255 · saturation(tone(encode(lin)))))

Everything is a pure function; what is random is drawn by `draw_settings`, and noise from the generator given.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from m3sr_jax.data.augmentation import compressed
from m3sr_jax.data.camera import quantise
from m3sr_jax.data.colorimetry import srgb_matrix
from m3sr_jax.data.photo.cameras import draw_camera, measured_camera
from m3sr_jax.data.photo.lights import draw_light, lamp
from m3sr_jax.data.spectra import reflectances
from m3sr_jax.io.photos.spaces import srgb_decode, srgb_encode
from m3sr_jax.io.wavelengths import BANDS

CLEAN_SHARE = 0.2
WHITE_BALANCE_SIGMA = 0.08
EXPOSURE_STOPS = (-1.5, 0.7)
TONE_SHARE, MAX_TONE = 0.6, 0.8
SATURATION_SHARE, SATURATION = 0.5, (0.85, 1.25)
NOISE = (0.002, 0.03)
JPEG_SHARE, JPEG_QUALITY = 0.8, (50, 98)
READ_NOISE = 0.05  # of the shot noise at white
# A matrix with larger entries amplifies noise beyond any use; makers avoid such sensors.
MAX_MATRIX = 8.0
CLIPPED = 250  # codes above this are taken as clipped

Recorder = Callable[[str, np.ndarray], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one photo is taken and developed.

    Attributes:
        light: power at the bands, (S,).
        camera: sensitivities at the bands, (S, 3).
        name: camera and light, for scene names.
        exposure: factor on the light.
        white_balance: error of the gains of R, G and B; 1 is exact.
        tone: strength of the S-curve, 0 to 1.
        saturation: factor on the distance from grey.
        noise: standard deviation of shot noise at white.
        jpeg_quality: 0 for no compression.
    """

    light: Float64[np.ndarray, " S"]
    camera: Float64[np.ndarray, "S 3"]
    name: str = ""
    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tone: float = 0.0
    saturation: float = 1.0
    noise: float = 0.0
    jpeg_quality: int = 0


def ideal_settings() -> Settings:
    """Returns the settings of an ideal photo: CIE 1931 as the camera, D65, no error and no compression."""
    return Settings(lamp("D65"), measured_camera("CIE 1931"), "ideal")


def draw_settings(rng: np.random.Generator) -> Settings:
    """Draws a camera, a light and the errors of a photo; a fifth of the photos has none, except for its exposure."""
    while True:
        (light_name, light), (camera_name, camera) = draw_light(rng), draw_camera(rng)
        if np.abs(colour_matrix(camera, light)).max() <= MAX_MATRIX:
            break
    exposure = float(2 ** rng.uniform(*EXPOSURE_STOPS))
    settings = Settings(light, camera, f"{camera_name} {light_name}", exposure)
    clean, happens = rng.random() < CLEAN_SHARE, rng.random(3)
    red, blue = np.exp(rng.normal(0, WHITE_BALANCE_SIGMA, 2))
    errors = {
        "white_balance": (float(red), 1.0, float(blue)),
        "tone": rng.uniform(0, MAX_TONE) if happens[0] < TONE_SHARE else 0.0,
        "saturation": rng.uniform(*SATURATION) if happens[1] < SATURATION_SHARE else 1.0,
        "noise": float(np.exp(rng.uniform(*np.log(NOISE)))),
        "jpeg_quality": int(rng.integers(*JPEG_QUALITY, endpoint=True)) if happens[2] < JPEG_SHARE else 0,
    }
    return settings if clean else dataclasses.replace(settings, **errors)


def take_photo(
    scene: Float32[np.ndarray, "H W S"],
    settings: Settings,
    rng: np.random.Generator,
    record: Recorder = lambda stage, values: None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Takes and develops a photo.

    Args:
        scene: reflectance times shading, 1 = white.
        settings: of camera and software.
        rng: of the noise.
        record: is told each stage's name and values in [0, 1]: linear up to "colour matrix", then encoded.

    Returns:
        sRGB codes.
    """
    white = (settings.camera * settings.light[:, None]).sum(axis=0)
    record("reflectance", scene @ display_matrix())
    raw = settings.exposure * (scene @ (settings.camera * settings.light[:, None] / white))
    if settings.noise:
        deviation = settings.noise * np.sqrt(np.maximum(raw, 0) + READ_NOISE**2)
        raw = raw + rng.normal(0, 1, raw.shape) * deviation
    record("sensor", raw)
    raw = np.clip(raw * np.array(settings.white_balance), 0, 1)
    record("white balance", raw)
    linear = np.clip(raw @ colour_matrix(settings.camera, settings.light), 0, 1)
    record("colour matrix", linear)
    encoded = saturated(toned(srgb_encode(linear), settings.tone), settings.saturation)
    record("tone and saturation", encoded)
    codes = quantise(encoded)
    if settings.jpeg_quality:
        codes = compressed(codes, settings.jpeg_quality)
    record("JPEG", codes / 255)
    return codes


def target_scale(scene: Float32[np.ndarray, "H W S"], codes: UInt8[np.ndarray, "H W 3"]) -> float:
    """Returns the factor on a scene whose picture under D65 and CIE 1931 comes nearest to the decoded photo.

    Least squares over pixels that are not clipped; 1 if there are none.
    """
    seen = (codes < CLIPPED).all(axis=-1)
    ideal, photo = (scene[seen] @ display_matrix()).ravel(), srgb_decode(codes[seen] / 255).ravel()
    power = float(ideal @ ideal)
    return float(ideal @ photo) / power if power > 0 and float(ideal @ photo) > 0 else 1.0


def colour_matrix(camera: Float64[np.ndarray, "S 3"], light: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, "3 3"]:
    """Returns the matrix from white-balanced raw values to linear sRGB, raw · matrix, that keeps white.

    Least squares over the measured reflectances: as they look to the camera in this light, and to CIE 1931 under D65.
    """
    weights = camera * light[:, None]
    raw = reflectances() @ (weights / weights.sum(axis=0))
    wanted = reflectances() @ display_matrix()
    blue = raw[:, 2:]
    free = np.linalg.lstsq(raw[:, :2] - blue, wanted - blue, rcond=None)[0]
    return np.vstack([free, 1 - free.sum(axis=0)])


def toned(encoded: Float[np.ndarray, "H W 3"], strength: float) -> Float[np.ndarray, "H W 3"]:
    """Applies an S-curve to encoded values: e + s·e·(1 − e)·(2e − 1), rising for s up to 1."""
    return encoded + strength * encoded * (1 - encoded) * (2 * encoded - 1)


def saturated(encoded: Float[np.ndarray, "H W 3"], factor: float) -> Float[np.ndarray, "H W 3"]:
    """Moves encoded colours away from grey, or towards it."""
    grey = encoded @ np.array([0.2126, 0.7152, 0.0722])
    return np.clip(grey[..., None] + factor * (encoded - grey[..., None]), 0, 1)


@functools.cache
def display_matrix() -> Float64[np.ndarray, "31 3"]:
    """Returns the weights of the bands that give linear sRGB under D65, see `srgb_matrix`."""
    return srgb_matrix(BANDS)
