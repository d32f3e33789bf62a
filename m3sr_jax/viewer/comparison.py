"""A cube against its truth, in one pass of bounded memory: what the metrics say, and every band's own error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

ROWS = 64


@dataclass(frozen=True)
class Comparison:
    """Errors over all pixels where both cubes have values, as `m3sr_jax.evaluation.metrics` defines them.

    Attributes:
        rmse: root mean square error.
        psnr: in dB, both cubes clipped to [0, 1], peak 1.
        sam: mean spectral angle in degrees over pixels with light in every band that is there.
        band_rmse: root mean square error of each band, (S,).
    """

    rmse: float
    psnr: float
    sam: float
    band_rmse: Float64[np.ndarray, " S"]


def compare(cube: Float32[np.ndarray, "H W S"], truth: Float32[np.ndarray, "H W S"]) -> Comparison:
    """Compares two cubes row block by row block; a value that is missing in either counts in neither.

    Args:
        cube: the estimate.
        truth: what it should be.

    Returns:
        The errors; nan where nothing can be compared.
    """
    bands = cube.shape[2]
    count, square, clipped = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    angle, angles = 0.0, 0
    for start in range(0, cube.shape[0], ROWS):
        x, y = (values[start : start + ROWS].reshape(-1, bands).astype(np.float64) for values in (cube, truth))
        there = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(there, x, 0), np.where(there, y, 0)
        count += there.sum(0)
        square += ((x - y) ** 2).sum(0)
        clipped += ((np.clip(x, 0, 1) - np.clip(y, 0, 1)) ** 2).sum(0)
        found = _angles(x, y)
        angle, angles = angle + found.sum(), angles + len(found)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Comparison(
            rmse=float(np.sqrt(square.sum() / count.sum())),
            psnr=float(-10 * np.log10(clipped.sum() / count.sum())),
            sam=float(np.divide(angle, angles)),
            band_rmse=np.sqrt(square / count),
        )


def _angles(x: Float64[np.ndarray, "P S"], y: Float64[np.ndarray, "P S"]) -> Float64[np.ndarray, " Q"]:
    """Spectral angles in degrees, where neither spectrum is nought; Kahan's form, exact for small angles too."""
    x_norm, y_norm = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    lit = (x_norm > 0) & (y_norm > 0)
    u, v = x[lit] / x_norm[lit, None], y[lit] / y_norm[lit, None]
    return np.degrees(2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)))
