"""The least-squares baseline: a per-pixel polynomial map from RGB to a spectrum, which every model has to beat.

Natural spectra are so smooth that a linear map from three channels already reaches a PSNR near 35 dB on CAVE. Its score
belongs beside every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m3sr_jax.data.scenes import Scene
from m3sr_jax.errors import InputError

# Relative to the mean diagonal of the normal matrix: far below what the data determine (no score changes in its fifth
# digit) and far above float64 rounding. A colour direction that no training pixel has, as in all-grey images, gets
# weight zero instead of noise.
RIDGE = 1e-10
BLOCK_PIXELS = 2**16
NUM_FEATURES = {1: 4, 2: 10}


@dataclass(frozen=True)
class LeastSquares:
    """A polynomial map from a pixel's RGB to its spectrum.

    Attributes:
        degree: 1 for the features (1, r, g, b); 2 for these and r², g², b², rg, rb, gb.
        coefficients: (F, S), F = 4 or 10, one column per band.
    """

    degree: int
    coefficients: Float[np.ndarray, "F S"]

    @classmethod
    def fit(cls, scenes: Iterable[Scene], degree: int = 1) -> LeastSquares:
        """Fits the coefficients W that minimise Σ |φ(rgb)·W − spectrum|² over every pixel of every scene.

        Solves (Σ φφᵀ + λI)·W = Σ φ·spectrumᵀ in float64. Scenes are read once, one at a time, and only the sums
        are kept, so memory does not grow with their number. λ is `RIDGE` times the mean diagonal of Σ φφᵀ.

        Args:
            scenes: training scenes, rgb and cube in [0, 1].
            degree: 1 or 2.

        Raises:
            InputError: there are no scenes, or a value is not finite.

        Source: the textbook normal equations, per pixel; the regression baseline of RGB-to-spectrum papers.
        """
        if degree not in (1, 2):
            raise ValueError(f"degree is 1 or 2, got {degree}")
        return fit_degrees(scenes, (degree,))[0]

    @property
    def name(self) -> str:
        """The name that reports use."""
        return f"least_squares_{'linear' if self.degree == 1 else 'quadratic'}"

    def predict(self, rgb: Float[np.ndarray, "*space 3"]) -> Float[np.ndarray, "*space S"]:
        """Maps RGB to spectra, φ(rgb)·W, unclamped.

        Args:
            rgb: (..., 3) in [0, 1].

        Returns:
            (..., S) float32.
        """
        rgb = np.asarray(rgb)
        pixels = rgb.reshape(-1, 3)
        spectra = np.empty((len(pixels), self.coefficients.shape[1]), np.float32)
        for start in range(0, len(pixels), BLOCK_PIXELS):
            block = slice(start, start + BLOCK_PIXELS)
            spectra[block] = _features(pixels[block], self.degree) @ self.coefficients
        return spectra.reshape(*rgb.shape[:-1], -1)


def fit_degrees(scenes: Iterable[Scene], degrees: Sequence[int] = (1, 2)) -> list[LeastSquares]:
    """Fits maps of several degrees in one pass over the scenes; see `LeastSquares.fit`.

    The sums of the highest degree hold those of the lower ones.
    """
    normal = moments = None
    for features, spectra in _blocks(scenes, max(degrees)):
        normal = features.T @ features + (0 if normal is None else normal)
        moments = features.T @ spectra + (0 if moments is None else moments)
    if normal is None or moments is None:
        raise InputError("least-squares fit: found no scenes, expected at least one training scene")
    if not (np.isfinite(normal).all() and np.isfinite(moments).all()):
        raise InputError("least-squares fit: found NaN or infinity in the training scenes; check them with m3sr check")
    return [_solve(normal, moments, degree) for degree in degrees]


def _solve(normal: np.ndarray, moments: np.ndarray, degree: int) -> LeastSquares:
    count = NUM_FEATURES[degree]
    normal, moments = normal[:count, :count], moments[:count]
    ridge = RIDGE * np.trace(normal) / count
    return LeastSquares(degree, np.linalg.solve(normal + ridge * np.eye(count), moments))


def _blocks(scenes: Iterable[Scene], degree: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields features (P, F) and spectra (P, S) in float64, a block of pixels at a time."""
    for scene in scenes:
        rgb, cube = scene.rgb.reshape(-1, 3), scene.cube.reshape(-1, scene.cube.shape[-1])
        for start in range(0, len(rgb), BLOCK_PIXELS):
            block = slice(start, start + BLOCK_PIXELS)
            yield _features(rgb[block], degree), cube[block].astype(np.float64)


def _features(rgb: Float[np.ndarray, "P 3"], degree: int) -> Float[np.ndarray, "P F"]:
    """Computes φ, the monomials of r, g and b up to the degree, the constant first."""
    columns = [np.ones(len(rgb)), *rgb.astype(np.float64).T]
    if degree == 2:
        r, g, b = columns[1:]
        columns += [r * r, g * g, b * b, r * g, r * b, g * b]
    return np.stack(columns, axis=-1)
