"""Draws the stages of a simulated photo for docs/photo.md.

Command:  python tools/draw_photo_stages.py docs/photo_stages.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from m3sr_jax.data.photo.cameras import measured_camera
from m3sr_jax.data.photo.develop import Settings, take_photo
from m3sr_jax.data.photo.lights import lamp
from m3sr_jax.data.photo.surfaces import Pigments
from m3sr_jax.data.rendering import radiance
from m3sr_jax.data.spectra import reflectances
from m3sr_jax.io.photos.spaces import srgb_encode

SIDE, MARGIN = 128, 16
LINEAR = ("reflectance", "sensor", "white balance", "colour matrix")


def main() -> None:
    rng = np.random.default_rng(5)
    pigments = Pigments.of(reflectances())
    scene = radiance(rng, pigments.draw(64, rng), np.ones(31), SIDE, SIDE)
    settings = Settings(
        lamp("A"),
        measured_camera("Nikon 5100"),
        exposure=0.9,
        white_balance=(1.1, 1.0, 0.92),
        tone=0.8,
        saturation=1.2,
        noise=0.02,
        jpeg_quality=50,
    )
    stages: list[tuple[str, np.ndarray]] = []
    take_photo(scene, settings, rng, lambda name, values: stages.append((name, values)))
    light = settings.camera * settings.light[:, None]
    seen = scene @ (light / light.sum(axis=0)[1])  # what the sensor records before its channels are scaled to white
    stages.insert(1, ("light", np.clip(seen / np.percentile(seen, 99.5), 0, 1)))
    picture = Image.new("RGB", (len(stages) * (SIDE + 4), SIDE + MARGIN), "white")
    drawing = ImageDraw.Draw(picture)
    for column, (name, values) in enumerate(stages):
        encoded = srgb_encode(np.clip(values, 0, 1)) if name in (*LINEAR, "light") else values
        left = column * (SIDE + 4)
        picture.paste(Image.fromarray(np.rint(np.clip(encoded, 0, 1) * 255).astype(np.uint8)), (left, MARGIN))
        drawing.text((left + 2, 1), name, fill="black")
    picture.save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    main()
