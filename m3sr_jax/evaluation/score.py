"""Scores of cubes on disk: predictions of any tool beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from m3sr_jax.data.scenes import Scene
from m3sr_jax.data.splits import find_files, scene_name
from m3sr_jax.errors import InputError, shortened
from m3sr_jax.evaluation.evaluate import Report
from m3sr_jax.evaluation.figures import Estimate, reconstruction_figure
from m3sr_jax.evaluation.protocols import Protocol, band_rmse, evaluate_pair
from m3sr_jax.io.cube_intervals import is_interval
from m3sr_jax.io.cubes import READ_SUFFIXES
from m3sr_jax.io.wavelengths import same_bands, span

Cube = Float32[np.ndarray, "H W S"]
ReadCube = Callable[[Path], tuple[Cube, Float64[np.ndarray, " S"]]]


@dataclass(frozen=True)
class Pair:
    """A predicted cube and its truth, as files."""

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Compared:
    """A pair as arrays of one shape."""

    pair: Pair
    prediction: Cube
    truth: Cube
    wavelengths: Float64[np.ndarray, " S"]


def match_cubes(prediction: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    """Pairs two files, or the cubes of two folders by their names.

    Names are compared without suffix and endings, as in `m3sr_jax.data.splits.scene_name`.

    Returns:
        The pairs, and the names of the files that have no partner.

    Raises:
        InputError: one is a folder and the other is not, one does not exist, two files have the same name, or no file
            has a partner.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; expected a cube, or a folder of cubes")
    if prediction.is_dir() != truth.is_dir():
        raise InputError(f"{prediction} and {truth}: found a file and a folder; expected two files or two folders")
    if not prediction.is_dir():
        return [Pair(scene_name(truth.name), prediction, truth)], []
    found, true = _cubes(prediction), _cubes(truth)
    pairs = [Pair(name, found[name], true[name]) for name in sorted(found.keys() & true.keys())]
    if not pairs:
        raise InputError(
            f"{prediction} and {truth}: no cube of one has the name of a cube in the other; found "
            f"{shortened(sorted(found), 4) or 'none'} and {shortened(sorted(true), 4) or 'none'}"
        )
    return pairs, sorted(str((found | true)[name]) for name in found.keys() ^ true.keys())


def _cubes(folder: Path) -> dict[str, Path]:
    endings = "|".join(suffix.lstrip(".") for suffix in READ_SUFFIXES)
    cubes: dict[str, Path] = {}
    for _, path in find_files(folder, rf".+\.(?:{endings})"):
        if is_interval(path):
            continue
        first = cubes.setdefault(scene_name(path.name), path)
        if first != path:
            raise InputError(f"{path}: has the name of {first}, as scenes are named; remove one of them")
    return cubes


def read_pair(pair: Pair, read_prediction: ReadCube, read_truth: ReadCube) -> Compared:
    """Reads both cubes.

    Raises:
        InputError: a file is unreadable, or their sizes or bands differ.
    """
    prediction, predicted_nm = read_prediction(pair.prediction)
    truth, nm = read_truth(pair.truth)
    if prediction.shape != truth.shape:
        found, expected = (f"{h}×{w} pixels of {s} bands" for h, w, s in (prediction.shape, truth.shape))
        raise InputError(f"{pair.prediction}: found {found}; expected {expected} as in {pair.truth}")
    if not same_bands(predicted_nm, nm):
        raise InputError(
            f"{pair.prediction}: found bands of {span(predicted_nm)}; expected {span(nm)} as in {pair.truth}; if one "
            "file states them wrongly or not at all, give them by --wavelengths"
        )
    return Compared(pair, prediction, truth, nm)


def score_cubes(
    pairs: list[Pair],
    read: Callable[[Pair], Compared],
    protocol: Protocol,
    name: str,
    observe: Callable[[Compared, dict[str, float]], None],
) -> tuple[Report, list[float] | None]:
    """Scores every pair; memory does not grow with their number.

    Args:
        pairs: what to score.
        read: see `read_pair`.
        protocol: the terms.
        name: the report's name for the predictions.
        observe: called with each pair and its scores.

    Returns:
        The report, and the wavelengths of its errors by band; None, and no such errors, if the pairs' bands differ.

    Raises:
        InputError: a pair cannot be read or scored.
    """
    scores, bands, wavelengths = {}, [], []
    for pair in pairs:
        both = read(pair)
        try:
            scores[pair.name] = evaluate_pair(protocol, both.prediction, both.truth)
        except InputError as error:
            raise InputError(f"{pair.prediction}: {error}") from error
        bands.append(band_rmse(protocol, both.prediction, both.truth))
        wavelengths.append(both.wavelengths)
        observe(both, scores[pair.name])
    alike = all(same_bands(nm, wavelengths[0]) for nm in wavelengths)
    errors = tuple(np.mean(bands, axis=0).tolist()) if alike else ()
    return Report(name, protocol, scores, None, errors), wavelengths[0].tolist() if alike else None


def write_error_figure(path: Path, both: Compared, scores: dict[str, float], label: str) -> None:
    """Draws one pair: the truth's colours, the error map, three bands, and spectra at four pixels."""
    from m3sr_jax.viewer.colorimetry import render

    colours = np.asarray(render(both.truth, both.wavelengths).rgba[..., :3], np.float32) / np.float32(255)
    linear = colours ** np.float32(2.2)  # the figure encodes with the inverse
    scene = Scene(both.pair.name, linear, both.truth, both.wavelengths)
    title = f"{both.pair.name}: PSNR {scores['psnr']:.2f} dB, SAM {scores['sam']:.2f}°"
    reconstruction_figure(scene, Estimate(label, both.prediction), path, title=title, photo="colours of the truth")
