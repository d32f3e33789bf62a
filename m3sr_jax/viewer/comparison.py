"""Comparison of a cube with its truth in one pass of bounded memory: scores, and the error of each band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from m3sr_jax.evaluation.metrics import spectral_angle
from m3sr_jax.io.strips import strips


@dataclass(frozen=True)
class Comparison:
    """Scores over the values that both cubes have, as `m3sr_jax.evaluation.metrics` defines them.

    Attributes:
        rmse: root mean square error.
        psnr: in dB, both cubes clipped to [0, 1], peak 1.
        sam: mean spectral angle in degrees over the pixels where neither spectrum is zero.
        band_rmse: root mean square error of each band, (S,).
    """

    rmse: float
    psnr: float
    sam: float
    band_rmse: Float64[np.ndarray, " S"]


def compare(cube: Float32[np.ndarray, "H W S"], truth: Float32[np.ndarray, "H W S"]) -> Comparison:
    """Compares two cubes one block of rows at a time; a value missing in one is ignored in both.

    Args:
        cube: the estimate.
        truth: the true cube.

    Returns:
        The scores; nan where nothing can be compared.
    """
    bands = cube.shape[2]
    count, square, clipped = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    angle_sum, angle_count = 0.0, 0
    for rows in strips(cube.shape):
        x, y = (values[rows].reshape(-1, bands).astype(np.float64) for values in (cube, truth))
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(finite, x, 0), np.where(finite, y, 0)
        count += finite.sum(0)
        square += ((x - y) ** 2).sum(0)
        clipped += ((np.clip(x, 0, 1) - np.clip(y, 0, 1)) ** 2).sum(0)
        angles, defined = spectral_angle(x, y)
        angle_sum, angle_count = angle_sum + angles[defined].sum(), angle_count + defined.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return Comparison(
            rmse=float(np.sqrt(square.sum() / count.sum())),
            psnr=float(-10 * np.log10(clipped.sum() / count.sum())),
            sam=float(np.degrees(np.divide(angle_sum, angle_count))),
            band_rmse=np.sqrt(square / count),
        )
