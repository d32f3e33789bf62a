"""Makes the models of the package again, with their intervals: the regression, and the network from a training run.

Command:  python tools/fit_default_model.py                        m3sr_jax/pretrained/regression/, 1 minute on one core
          python tools/fit_default_model.py --checkpoint RUN       m3sr_jax/pretrained/network/, 2 minutes

Three sets of pigments have nothing in common in any step. The training pigments fit the regression. Its form and
weighting are chosen by the PSNR on photos of training pigments that the fit has left out, four folds in turn: the first
form within 0.01 dB of the best. The held-out pigments, which have neither fitted nor chosen anything, calibrate the
intervals, again in four folds.

Only homogeneous forms are tried, so that half the exposure gives half the cube and black stays black. Pixels that are
clipped in the photo are left out of fits. No measured scene is read.

A network trained with configs/photo.py has seen the training pigments alone. Its latest checkpoint is taken by default,
because the best one was chosen by photos of the held-out pigments.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from m3sr_jax.checkpoint import write_weights
from m3sr_jax.config import ModelConfig
from m3sr_jax.data.photo.develop import CLIPPED
from m3sr_jax.data.photo.scenes import SCALE, PhotoSpec, simulated_photo
from m3sr_jax.data.photo.surfaces import Pigments
from m3sr_jax.data.spectra import split_reflectances
from m3sr_jax.errors import InputError
from m3sr_jax.inference.finish import Finish, describes_photos
from m3sr_jax.inference.predictor import NETWORK, REGRESSION, Predictor, load
from m3sr_jax.io.photos.photo import Photo
from m3sr_jax.io.photos.spaces import srgb_decode
from m3sr_jax.io.wavelengths import BANDS
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model
from m3sr_jax.models.base import with_regression
from m3sr_jax.regression import REGRESSIONS, Regression, Sums, sums
from m3sr_jax.uncertainty import Interval, calibrated

FORMS = tuple(name for name in REGRESSIONS if name.startswith(("root", "ratio")))
FOLDS = 4
TIE = 0.01  # dB
# Part of the photos' seeds; those of fold i add i.
TRAIN, CHOOSE, CALIBRATE = 0, 1, 1 + FOLDS
COVERAGE = 0.9
SAMPLED_PIXELS = 64  # of each photo: neighbours tell nearly the same
Folds = list[Float64[np.ndarray, "N S"]]


def photos(
    reflectances: Float64[np.ndarray, "N S"], part: int, count: int, side: int
) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], np.ndarray]]:
    """Yields simulated photos: sRGB codes and reflectance (H, W, 31)."""
    pigments = Pigments.of(reflectances)
    for index in range(count):
        _, codes, target = simulated_photo(pigments, np.random.default_rng([0, part, index]), side, side)
        yield codes, target


def unclipped(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the pixels of photos that are not clipped: linear RGB (P, 3) and reflectance (P, 31)."""
    for codes, target in pairs:
        seen = (codes < CLIPPED).all(axis=-1)
        yield srgb_decode(codes[seen] / 255), target[seen].astype(np.float64)


def total(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> Sums:
    """Sums over all photos what determines every regression."""
    parts = (sums(rgb, cube) for rgb, cube in unclipped(pairs))
    return sum(parts, next(parts))


def aligned_psnr(fitted: Regression, rgb: np.ndarray, cube: np.ndarray) -> float:
    """Returns the PSNR of a prediction times the factor that fits best."""
    predicted = fitted.predict(rgb).astype(np.float64)
    predicted *= np.sum(predicted * cube) / np.sum(predicted**2)
    return -10 * np.log10(np.mean((np.clip(predicted, 0, 1) - cube) ** 2))


def form_scores(folds: Folds, count: int, side: int) -> dict[str, float]:
    """Returns each form's PSNR on `count` photos per fold, by fits to photos of the other folds' pigments."""
    parts = [total(photos(pigments, CHOOSE + fold, count, side)) for fold, pigments in enumerate(folds)]
    found: dict[str, list[float]] = {name: [] for name in FORMS}
    for fold, pigments in enumerate(folds):
        others = [part for index, part in enumerate(parts) if index != fold]
        fits = {name: sum(others[1:], others[0]).fit(name) for name in FORMS}
        for pair in unclipped(photos(pigments, CHOOSE + fold, count, side)):
            for name, fitted in fits.items():
                found[name].append(aligned_psnr(fitted, *pair))
    return {name: float(np.mean(psnr)) for name, psnr in found.items()}


def interval_of(predictor: Predictor, folds: Folds, count: int, side: int) -> Interval:
    """Calibrates intervals on `count` photos per fold of pigments that the model has not seen."""
    plain, exact = [], []
    for fold, pigments in enumerate(folds):
        light, errors, exact_errors = [], [], []
        generator = np.random.default_rng([fold])
        for codes, target in photos(pigments, CALIBRATE + fold, count, side):
            cube = predictor.predict(codes)
            finish = Finish(predictor.card, Photo(codes, "srgb", "PNG", 8, None, ()), exact_colour=True, light=None)
            chosen = np.unravel_index(generator.choice(side * side, SAMPLED_PIXELS, replace=False), (side, side))
            light.append(srgb_decode(codes[chosen] / 255))
            errors.append((cube - target)[chosen])
            exact_errors.append((finish(cube) - target)[chosen])
        plain.append((np.concatenate(light), np.concatenate(errors)))
        exact.append((np.concatenate(light), np.concatenate(exact_errors)))
    return Interval(COVERAGE, calibrated(plain, COVERAGE), calibrated(exact, COVERAGE))


def regression(train: Float64[np.ndarray, "N S"], options: argparse.Namespace) -> Predictor:
    """Chooses the form of the regression, fits it, and describes it."""
    scores = form_scores(in_folds(train), options.choose // FOLDS, options.side)
    for name, score in scores.items():
        print(f"{name:16} {score:.3f} dB")
    best = next(name for name, score in scores.items() if score > max(scores.values()) - TIE)
    fitted = total(photos(train, TRAIN, options.train, options.side)).fit(best)
    card = ModelCard(
        ModelConfig(name="regression", base=best),
        tuple(map(float, BANDS)),
        camera="simulated",
        provenance={
            "command": "python tools/fit_default_model.py",
            "photos": {name: getattr(options, name) for name in ("train", "choose", "side")}
            | {"simulation": PhotoSpec.VERSION},
            "psnr_on_pigments_left_out": {name: round(score, 3) for name, score in scores.items()},
        },
        encoding="linear",
        quantity="reflectance",
        scale=SCALE,
    )
    return Predictor(build_model(card.model), with_regression({}, fitted), card)


def in_folds(reflectances: Float64[np.ndarray, "N S"]) -> Folds:
    """Deals reflectances out to the folds."""
    return [reflectances[fold::FOLDS] for fold in range(FOLDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1200, help="simulated photos to fit")
    parser.add_argument("--choose", type=int, default=600, help="simulated photos to choose the form by")
    parser.add_argument("--calibrate", type=int, default=1200, help="simulated photos to calibrate intervals on")
    parser.add_argument("--side", type=int, default=48, help="of each, in pixels")
    parser.add_argument("--checkpoint", type=Path, help="a trained network; no regression is fitted")
    parser.add_argument("--which", choices=("latest", "best"), default="latest", help="of a training workdir")
    parser.add_argument("--output", type=Path, help="folder; by default that of the shipped model")
    options = parser.parse_args()
    output = options.output or (NETWORK if options.checkpoint else REGRESSION)
    train, held_out = split_reflectances(0)
    predictor = load(options.checkpoint, options.which) if options.checkpoint else regression(train, options)
    if not describes_photos(predictor.card):
        raise InputError(f"{options.checkpoint}: expected a model of photos' reflectance, see configs/photo.py")
    interval = interval_of(predictor, in_folds(held_out), options.calibrate // FOLDS, options.side)
    calibration = {
        "photos": options.calibrate,
        "side": options.side,
        "simulation": PhotoSpec.VERSION,
        "pigments": len(held_out),
    }
    card = dataclasses.replace(predictor.card, uncertainty={"coverage": COVERAGE, "calibrated_on": calibration})
    output.mkdir(parents=True, exist_ok=True)
    write_weights(output, card, predictor.params, interval, half=bool(options.checkpoint))
    print(f"wrote {card.model.name} {card.model.base} with intervals to {output}")


if __name__ == "__main__":
    main()
