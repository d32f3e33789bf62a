"""Intervals around a predicted spectrum, from the colour of its pixel in the photo, and their calibration.

    log half-width = φ(t, p, q)·w    with φ all monomials of t, p and q up to degree 2, w one column per band
    t = log(m + 0.01), p = r / (3m + 0.03), q = b / (3m + 0.03), m = (r + g + b) / 3

r, g and b are linear light. The model whose errors are described does not matter: only its errors are needed, on photos
with known spectra. w is a quantile regression of log|error|. Its constant is then set such that the wanted share of
errors lies inside, errors that the regression has not seen.

Sources: R. Koenker and G. Bassett, "Regression Quantiles", 1978; Y. Romano, E. Patterson and E. Candès, "Conformalized
Quantile Regression", 2019.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64

from m3sr_jax.errors import InputError

OFFSET = 0.01  # of white: noise and rounding, not the colour, limit what is darker
TERMS = 10
BLOCK_PIXELS = 2**16
SMALLEST_ERROR = 1e-6
# Iterations of reweighted least squares, and the smallest residual of the logarithm that they tell apart.
ITERATIONS, NEAR = 30, 1e-3
ARRAYS = CUBE, EXACT_COLOUR = "interval/cube", "interval/exact_colour"  # names in the file of weights


@dataclasses.dataclass(frozen=True)
class Interval:
    """Half-widths of a model's intervals: cube ± half-width.

    Attributes:
        coverage: share of true values that lie inside, on photos like those of the calibration.
        cube: w for the cubes that the model predicts, (10, S).
        exact_colour: w for cubes that were made to reproduce their photo, (10, S).
    """

    coverage: float
    cube: Float32[np.ndarray, "10 S"]
    exact_colour: Float32[np.ndarray, "10 S"]

    def half_widths(
        self, light: Float[np.ndarray, "*space 3"], *, exact_colour: bool = False
    ) -> Float32[np.ndarray, "*space S"]:
        """Computes the half-width of each pixel and band.

        Args:
            light: linear RGB of the photo, (…, 3) in [0, 1].
            exact_colour: whether the cubes reproduce the photo.
        """
        weights = self.exact_colour if exact_colour else self.cube
        pixels = light.reshape(-1, 3)
        widths = np.empty((len(pixels), weights.shape[1]), np.float32)
        for start in range(0, len(pixels), BLOCK_PIXELS):
            block = slice(start, start + BLOCK_PIXELS)
            np.matmul(features(pixels[block].astype(np.float32)), weights, out=widths[block])
        return np.exp(widths, out=widths).reshape(*light.shape[:-1], -1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what `from_arrays` takes, by its name in the file of weights."""
        return {CUBE: self.cube, EXACT_COLOUR: self.exact_colour}

    @classmethod
    def from_arrays(cls, coverage: float, arrays: Mapping[str, np.ndarray], bands: int) -> Interval:
        """Builds an interval from the arrays of a file of weights.

        Raises:
            InputError: an array is missing, has another shape than (10, bands), or values that are not finite.
        """
        found = []
        for name in ARRAYS:
            array = np.asarray(arrays.get(name, np.zeros(0)), np.float32)
            if array.shape != (TERMS, bands) or not np.isfinite(array).all():
                raise InputError(f"{name}: found an array of shape {array.shape}; expected ({TERMS}, {bands}), finite")
            found.append(array)
        return cls(coverage, *found)


def features(light: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 10"]:
    """Computes φ of linear RGB; values below 0 count as 0."""
    light = np.maximum(light, 0)
    level = light.mean(axis=-1) + light.dtype.type(OFFSET)
    t, p, q = np.log(level), light[:, 0] / (3 * level), light[:, 2] / (3 * level)
    return np.stack([np.ones_like(t), t, p, q, t * t, t * p, t * q, p * p, p * q, q * q], axis=-1)


def calibrated(
    folds: Sequence[tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P S"]]], coverage: float
) -> Float32[np.ndarray, "10 S"]:
    """Fits w to errors such that the share `coverage` of them lies inside, for errors of unseen folds.

    Args:
        folds: linear RGB and errors of pixels, at least two folds that have nothing in common.
        coverage: in (0, 1).
    """
    logs = [
        (features(light.astype(np.float64)), np.log(np.maximum(np.abs(errors.astype(np.float64)), SMALLEST_ERROR)))
        for light, errors in folds
    ]
    unseen = []
    for held_out, (phi, log_errors) in enumerate(logs):
        others = [pair for fold, pair in enumerate(logs) if fold != held_out]
        unseen.append(log_errors - phi @ _quantile_regression(others, coverage))
    weights = _quantile_regression(logs, coverage)
    weights[0] += np.quantile(np.concatenate(unseen), coverage, axis=0)
    return weights.astype(np.float32)


def _quantile_regression(
    parts: Sequence[tuple[Float64[np.ndarray, "P F"], Float64[np.ndarray, "P S"]]], share: float
) -> Float64[np.ndarray, "F S"]:
    """Minimises Σ max(share·r, (share − 1)·r), r = value − φ·w, for each band by reweighted least squares."""
    phi, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    weights = np.linalg.lstsq(phi, values, rcond=None)[0]
    weights[0] += np.quantile(values - phi @ weights, share, axis=0)
    for band in range(values.shape[1]):
        for _ in range(ITERATIONS):
            residual = values[:, band] - phi @ weights[:, band]
            importance = np.where(residual > 0, share, 1 - share) / np.maximum(np.abs(residual), NEAR)
            weighted = phi * importance[:, None]
            weights[:, band] = np.linalg.lstsq(weighted.T @ phi, weighted.T @ values[:, band], rcond=None)[0]
    return weights
