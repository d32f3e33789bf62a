"""Makes the default model again: a regression fitted to simulated photos, written to m3sr_jax/pretrained/.

Command:  python tools/fit_default_model.py      (2 minutes on one core)

The form and weighting are those with the best PSNR on simulated photos of pigments that no training photo shows. Only
homogeneous forms are tried, so that half the exposure gives half the cube and black stays black. Pixels that are
clipped in the photo are left out. No measured scene is read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from m3sr_jax.checkpoint import WEIGHTS_FILE
from m3sr_jax.config import ModelConfig
from m3sr_jax.data.photo.develop import CLIPPED
from m3sr_jax.data.photo.scenes import SCALE, PhotoSpec, simulated_photo
from m3sr_jax.data.photo.surfaces import Pigments
from m3sr_jax.data.spectra import split_reflectances
from m3sr_jax.inference.predictor import PRETRAINED
from m3sr_jax.io.photos.spaces import srgb_decode
from m3sr_jax.io.wavelengths import BANDS
from m3sr_jax.model_card import MODEL_FILE, ModelCard
from m3sr_jax.models.base import COEFFICIENTS
from m3sr_jax.regression import REGRESSIONS, Regression, Sums, sums

FORMS = tuple(name for name in REGRESSIONS if name.startswith(("root", "ratio")))


def photos(pigments: Pigments, part: int, count: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the unclipped pixels of simulated photos: linear RGB (P, 3) and reflectance (P, 31)."""
    for index in range(count):
        _, codes, target = simulated_photo(pigments, np.random.default_rng([0, part, index]), side, side)
        seen = (codes < CLIPPED).all(axis=-1)
        yield srgb_decode(codes[seen] / 255), target[seen].astype(np.float64)


def aligned_psnr(fitted: Regression, rgb: np.ndarray, cube: np.ndarray) -> float:
    """Returns the PSNR of a prediction times the factor that fits best."""
    predicted = fitted.predict(rgb).astype(np.float64)
    predicted *= np.sum(predicted * cube) / np.sum(predicted**2)
    return -10 * np.log10(np.mean((np.clip(predicted, 0, 1) - cube) ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1200, help="simulated photos to fit")
    parser.add_argument("--valid", type=int, default=200, help="simulated photos to choose by")
    parser.add_argument("--side", type=int, default=48, help="of each, in pixels")
    parser.add_argument("--output", type=Path, default=PRETRAINED)
    options = parser.parse_args()
    train, valid = map(Pigments.of, split_reflectances(0))
    total: Sums | None = None
    for rgb, cube in photos(train, 0, options.train, options.side):
        total = sums(rgb, cube) if total is None else total + sums(rgb, cube)
    assert total is not None
    held_out = list(photos(valid, 1, options.valid, options.side))
    fits = {name: total.fit(name) for name in FORMS}
    scores = {name: float(np.mean([aligned_psnr(fit, *pair) for pair in held_out])) for name, fit in fits.items()}
    for name, score in scores.items():
        print(f"{name:16} {score:.3f} dB")
    best = max(scores, key=lambda name: scores[name])
    write(options.output, fits[best], {"train": options.train, "valid": options.valid, "side": options.side}, scores)
    print(f"wrote {best} to {options.output}")


def write(folder: Path, fitted: Regression, photos: dict[str, int], scores: dict[str, float]) -> None:
    """Writes model.json and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    provenance = {
        "command": "python tools/fit_default_model.py",
        "photos": photos | {"simulation": PhotoSpec.VERSION},
        "psnr_on_simulated_photos": {name: round(score, 3) for name, score in scores.items()},
    }
    card = ModelCard(
        ModelConfig(name="regression", base=fitted.name),
        tuple(map(float, BANDS)),
        camera="simulated",
        provenance=provenance,
        encoding="linear",
        quantity="reflectance",
        scale=SCALE,
    )
    (folder / MODEL_FILE).write_text(card.to_json())
    save_file({COEFFICIENTS: fitted.coefficients.astype(np.float32)}, folder / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
