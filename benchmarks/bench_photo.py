"""How well the package's models do on photos of measured scenes, which they have never seen, beside RGB upsampling.

Command:  python benchmarks/bench_photo.py --data cave26_128.h5 [--checkpoint m3sr_jax/pretrained/regression]

The file holds all CAVE scenes at 128×128 pixels: `cube`, 16-bit reflectances, and `rgb_d65`, CAVE's own sRGB bitmaps.
Each prediction is multiplied by the factor that fits the true cube best, since a photo does not tell its exposure.
`psnr` clips to [0, 1]; `sam_bright` is the angle over pixels whose norm exceeds 5 % of white's. `own` uses all scenes'
bitmaps; `ideal` renders the six test scenes of the protocol `cave`; `white balance` does so with gains of R and B of
1.1 and 0.9, and the reverse; `simulated` takes four photos of every scene as the training data's are taken, with all
their errors: a network ships only if it beats its base there.

`coverage` is the share of the true values of bright pixels inside the model's intervals, on average over the photos,
`coverage_low` that of the photo at the lowest tenth, and `half_width` the intervals' mean; both cube and half-widths
are multiplied by the factor.

Mallett–Yuksel is the basis in colour-science; Jakob–Hanika is the sigmoid of a quadratic, fitted to each colour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import colour
import h5py
import numpy as np
from measure import parser, save, show
from study_cave import TEST

import m3sr_jax
from m3sr_jax.data.photo.develop import display_matrix, draw_settings, ideal_settings, take_photo
from m3sr_jax.evaluation.metrics import BRIGHT, psnr, sam_bright
from m3sr_jax.inference.finish import Finish
from m3sr_jax.inference.predictor import NETWORK
from m3sr_jax.io.photos.photo import Photo
from m3sr_jax.io.photos.spaces import srgb_decode
from m3sr_jax.io.wavelengths import BANDS

Method = Callable[[np.ndarray], np.ndarray]


def mallett_yuksel(codes: np.ndarray) -> np.ndarray:
    """Upsamples by three spectra, one each for R, G and B. Source: Mallett and Yuksel, EGSR 2019."""
    basis = colour.recovery.MSDS_BASIS_FUNCTIONS_sRGB_MALLETT2019
    columns = np.asarray(basis.values).T
    return srgb_decode(codes / 255) @ np.stack([np.interp(BANDS, basis.wavelengths, column) for column in columns])


def jakob_hanika(codes: np.ndarray) -> np.ndarray:
    """Fits ρ(λ) = S(c₀λ² + c₁λ + c₂) to each colour, S a sigmoid, by Levenberg-Marquardt. Source: EUROGRAPHICS 2019."""
    colours, inverse = np.unique(codes.reshape(-1, 3), axis=0, return_inverse=True)
    wanted = np.clip(srgb_decode(colours / 255), 0.002, 0.998)
    x = (BANDS - 550) / 150
    powers, matrix = np.stack([x * x, x, np.ones_like(x)], 1), display_matrix()
    grey = wanted.mean(1)
    coefficients = np.zeros((len(wanted), 3))
    coefficients[:, 2] = (grey - 0.5) / np.sqrt(grey * (1 - grey))
    damping, cost = np.full(len(wanted), 1e-3), np.full(len(wanted), np.inf)
    step = np.zeros_like(coefficients)
    for _ in range(60):
        z = (coefficients - step) @ powers.T
        error = (0.5 + z / (2 * np.sqrt(1 + z * z))) @ matrix - wanted
        better = (error**2).sum(1) < cost
        coefficients[better] -= step[better]
        cost = np.where(better, (error**2).sum(1), cost)
        damping = np.clip(damping * np.where(better, 0.3, 5), 1e-9, 1e3)
        z = coefficients @ powers.T
        error = (0.5 + z / (2 * np.sqrt(1 + z * z))) @ matrix - wanted
        jacobian = np.einsum("ps,sk,sc->pck", 0.5 * (1 + z * z) ** -1.5, powers, matrix)
        hessian = np.einsum("pck,pcl->pkl", jacobian, jacobian)
        size = 1e-6 + np.trace(hessian, axis1=1, axis2=2)
        damped = hessian + (damping * size)[:, None, None] * np.eye(3)
        step = np.linalg.solve(damped, np.einsum("pck,pc->pk", jacobian, error)[..., None])[..., 0]
    z = coefficients @ powers.T
    return (0.5 + z / (2 * np.sqrt(1 + z * z)))[inverse.ravel()].reshape(*codes.shape[:2], len(BANDS))


def exact_colour(predictor: m3sr_jax.Predictor, codes: np.ndarray) -> np.ndarray:
    """Predicts as `m3sr predict --exact-colour` does."""
    photo = Photo(codes, "srgb", "PNG", 8, None, ())
    return Finish(predictor.card, photo, exact_colour=True, light=None)(predictor.predict(codes))


def scores(predicted: np.ndarray, cube: np.ndarray) -> tuple[float, float]:
    """Returns PSNR and angle of a prediction, times the best factor."""
    predicted = predicted * (np.sum(predicted * cube) / np.sum(predicted * predicted))
    pair = np.clip(predicted, 0, 1)[None].astype(np.float32), cube[None].astype(np.float32)
    return float(psnr(*pair)[0]), float(sam_bright(predicted[None].astype(np.float32), pair[1])[0])


def coverage(predicted: np.ndarray, half_widths: np.ndarray, cube: np.ndarray) -> tuple[float, float]:
    """Returns the share of bright pixels' values inside the intervals, times the best factor, and their half-width."""
    factor = np.sum(predicted * cube) / np.sum(predicted * predicted)
    bright = np.linalg.norm(cube, axis=-1) > BRIGHT * np.sqrt(cube.shape[-1])
    inside = np.abs(factor * predicted - cube) <= factor * half_widths
    return float(inside[bright].mean()), float(factor * half_widths[bright].mean())


def coverages(predicted: list[np.ndarray], half_widths: Method, pairs: list) -> dict[str, float]:
    """Returns what the rows say of the intervals."""
    found = np.array(
        [coverage(cube, half_widths(codes), truth) for cube, (codes, truth) in zip(predicted, pairs, strict=True)]
    )
    return {
        "coverage": round(found[:, 0].mean(), 3),
        "coverage_low": round(float(np.quantile(found[:, 0], 0.1)), 3),
        "half_width": round(found[:, 1].mean(), 4),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--checkpoint", type=Path, default=NETWORK)
    arguments = options.parse_args()
    with h5py.File(arguments.data) as opened:
        file: Any = opened
        names = sorted(file["cube"])
        cubes = {name: np.moveaxis(file["cube"][name][:], 0, -1) / 65535 for name in names}
        bitmaps = {name: file["rgb_d65"][name][:] for name in names}
    test = [f"{name}_ms" for name in TEST]

    def rendered(*balance: tuple[float, float, float]) -> list[tuple[np.ndarray, np.ndarray]]:
        settings = [dataclasses.replace(ideal_settings(), white_balance=gains) for gains in balance]
        generator = np.random.default_rng(0)
        return [(take_photo(cubes[name], s, generator), cubes[name]) for name in test for s in settings]

    def simulated() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index, name in enumerate(names):
            for photo in range(4):
                generator = np.random.default_rng([0, index, photo])
                yield take_photo(cubes[name].astype(np.float32), draw_settings(generator), generator), cubes[name]

    sets = {
        "own, 26 scenes": [(bitmaps[name], cubes[name]) for name in names],
        "own, 6 scenes": [(bitmaps[name], cubes[name]) for name in test],
        "ideal, 6 scenes": rendered((1.0, 1.0, 1.0)),
        "simulated, 26 scenes": list(simulated()),
        "white balance, 6 scenes": rendered((1.1, 1.0, 0.9), (0.9, 1.0, 1.1)),
    }
    predictor = m3sr_jax.load(arguments.checkpoint)
    methods: dict[str, Method] = {
        "model": predictor.predict,
        "model, exact colour": lambda codes: exact_colour(predictor, codes),
        "Mallett-Yuksel": mallett_yuksel,
        "Jakob-Hanika": jakob_hanika,
    }
    rows = []
    for method, predict in methods.items():
        ours = method.startswith("model")
        for photos, pairs in sets.items():
            predicted = [predict(codes) for codes, _ in pairs]
            found = np.array([scores(cube, truth) for cube, (_, truth) in zip(predicted, pairs, strict=True)])
            row: dict[str, Any] = {"method": method, "photos": photos}
            row |= {"psnr": round(found[:, 0].mean(), 2), "sam_bright": round(found[:, 1].mean(), 2)}
            if ours and predictor.uncertainty is not None:
                exact = method == "model, exact colour"
                row |= coverages(predicted, partial(predictor.interval, exact_colour=exact), pairs)
            row |= {"model": predictor.fingerprint()} if ours else {}
            show(row)
            rows.append(row)
    save(rows, "photo", arguments.output)


if __name__ == "__main__":
    main()
