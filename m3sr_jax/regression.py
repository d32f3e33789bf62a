"""Regressions from a pixel's RGB to its spectrum: feature maps for NumPy and JAX, and their fit in one pass.

A regression is φ(rgb)·W with one of the feature maps φ of `FEATURES`, fitted by least squares, plain or with each pixel
weighted by 1/(mean rgb + 0.1), which comes near to minimising relative errors. Its name is that of the map, with the
suffix "_weighted" if it is weighted: "cubic", "root2_weighted".

linear, quadratic, cubic   all monomials of r, g and b up to the degree, the constant included
root1, root2, root3        (rⁱ gʲ bᵏ)^(1/n) with i + j + k = n up to the degree; root1 is linear without the constant
ratio3                     rⁱ gʲ bᵏ / (r + g + b)² with i + j + k = 3

The root and ratio maps are homogeneous: half the exposure gives half the spectrum.

Source: G. Finlayson, M. Mackiewicz and A. Hurlbert, "Color Correction Using Root-Polynomial Regression", 2015.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from m3sr_jax.errors import InputError

# Relative to the mean diagonal of the normal matrix: far below what the data determine (no score changes in its fifth
# digit) and far above float64 rounding. A colour direction that no training pixel has, as in all-grey images, gets
# weight zero instead of noise.
RIDGE = 1e-10
BLOCK_PIXELS = 2**16
FOLDS = 5
WEIGHT_FLOOR = 0.1
WEIGHTED = "_weighted"
BLACK = 1e-6  # added to r + g + b, which is zero in black pixels

# i, j, k of rⁱ gʲ bᵏ, and what becomes of this product of degree n.
Term = tuple[int, int, int, str]


def _powers(degree: int) -> list[tuple[int, int, int]]:
    """Returns all (i, j, k) with i + j + k = degree, r before g before b."""
    return [(i, j, degree - i - j) for i in range(degree, -1, -1) for j in range(degree - i, -1, -1)]


def _polynomial(degree: int) -> tuple[Term, ...]:
    return tuple((*powers, "product") for n in range(degree + 1) for powers in _powers(n))


def _roots(degree: int) -> tuple[Term, ...]:
    # √(r²) is r again, so powers with a common factor are left out.
    kept = [powers for n in range(1, degree + 1) for powers in _powers(n) if math.gcd(*powers) == 1]
    return tuple((*powers, "root" if sum(powers) > 1 else "product") for powers in kept)


FEATURES: Mapping[str, tuple[Term, ...]] = {
    "linear": _polynomial(1),
    "quadratic": _polynomial(2),
    "cubic": _polynomial(3),
    **{f"root{degree}": _roots(degree) for degree in (1, 2, 3)},
    "ratio3": tuple((*powers, "ratio") for powers in _powers(3)),
}
REGRESSIONS = tuple(f"{features}{suffix}" for features in FEATURES for suffix in ("", WEIGHTED))
# Each term once: the sums over the pixels serve every regression.
TERMS = tuple(dict.fromkeys(term for terms in FEATURES.values() for term in terms))


def terms_of(regression: str) -> tuple[Term, ...]:
    """Returns the terms of a regression's feature map, one for each row of its coefficients."""
    return FEATURES[regression.removesuffix(WEIGHTED)]


def features(rgb: Float[Any, "*pixels 3"], terms: Iterable[Term]) -> Float[Any, "*pixels F"]:
    """Computes φ(rgb), for NumPy and JAX arrays alike.

    Args:
        rgb: (…, 3) in [0, 1]. Roots and ratios take values below 0 for 0.
        terms: F terms, such as `terms_of("root2")`.

    Returns:
        (…, F) in the type of `rgb`.
    """
    xp = rgb.__array_namespace__()
    powers = [[xp.ones_like(rgb[..., 0])] for _ in range(3)]
    for channel in range(3):
        for _ in range(3):
            powers[channel].append(powers[channel][-1] * rgb[..., channel])
    positive = xp.maximum(rgb, xp.zeros_like(rgb))
    total = positive.sum(-1) + BLACK

    def column(i: int, j: int, k: int, form: str) -> Any:
        if form == "product":
            return powers[0][i] * powers[1][j] * powers[2][k]
        r, g, b = (positive[..., channel] for channel in range(3))
        if form == "ratio":  # factor by factor, so that small numbers stay within float32
            factors = [r / total] * i + [g / total] * j + [b / total] * k
            return factors[0] * factors[1] * factors[2] * total
        product = math.prod([r] * i + [g] * j + [b] * k)
        return xp.sqrt(product) if i + j + k == 2 else xp.cbrt(product)

    return xp.stack([column(*term) for term in terms], -1)


@dataclasses.dataclass(frozen=True)
class Regression:
    """A map from a pixel's RGB to its spectrum.

    Attributes:
        name: one of `REGRESSIONS`.
        coefficients: W, (F, S), one column per band.
    """

    name: str
    coefficients: Float64[np.ndarray, "F S"]

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
        for block in _blocks(len(pixels)):
            spectra[block] = features(pixels[block].astype(np.float64), terms_of(self.name)) @ self.coefficients
        return spectra.reshape(*rgb.shape[:-1], -1)


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over pixels that determine every regression: of φφᵀ, φ·spectrumᵀ and |spectrum|², φ with all of `TERMS`.

    Attributes:
        normal: (2, T, T), plain and weighted.
        moments: (2, T, S), plain and weighted.
        power: plain sum of all squared values of the spectra.
        values: number of values, pixels times bands.
    """

    normal: Float64[np.ndarray, "2 T T"]
    moments: Float64[np.ndarray, "2 T S"]
    power: float
    values: int

    def __add__(self, other: Sums) -> Sums:
        normal, moments = self.normal + other.normal, self.moments + other.moments
        return Sums(normal, moments, self.power + other.power, self.values + other.values)

    def fit(self, name: str) -> Regression:
        """Returns the regression that minimises the sum of squared errors, or of weighted squared errors.

        Solves (Σ φφᵀ + λI)·W = Σ φ·spectrumᵀ in float64; λ is `RIDGE` times the mean diagonal of Σ φφᵀ.

        Raises:
            InputError: a value of the pixels was not finite.
        """
        if not (np.isfinite(self.normal).all() and np.isfinite(self.moments).all()):
            raise InputError("least-squares fit: found NaN or infinity in the training scenes; see m3sr check")
        normal, moments = self._parts(name, weighted=name.endswith(WEIGHTED))
        ridge = RIDGE * np.trace(normal) / len(normal) or 1.0  # of black photos alone, where any λ gives weight zero
        return Regression(name, np.linalg.solve(normal + ridge * np.eye(len(normal)), moments))

    def mean_square_error(self, regression: Regression) -> float:
        """Returns the mean squared error of a regression, fitted elsewhere, over these pixels and all bands."""
        normal, moments = self._parts(regression.name, weighted=False)
        weights = regression.coefficients
        return (self.power - 2 * np.sum(weights * moments) + np.sum(weights * (normal @ weights))) / self.values

    def _parts(self, name: str, *, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
        rows = [TERMS.index(term) for term in terms_of(name)]
        return self.normal[int(weighted)][np.ix_(rows, rows)], self.moments[int(weighted)][rows]


def sums(rgb: Float[np.ndarray, "*space 3"], cube: Float[np.ndarray, "*space S"]) -> Sums:
    """Sums over the pixels of an image, or of any selection of pixels.

    Args:
        rgb: (…, 3) in [0, 1].
        cube: their spectra, (…, S).
    """
    pixels, spectra = rgb.reshape(-1, 3), cube.reshape(-1, cube.shape[-1])
    size, bands = len(TERMS), spectra.shape[1]
    normal, moments, power = np.zeros((2, size, size)), np.zeros((2, size, bands)), 0.0
    for block in _blocks(len(pixels)):
        rows, y = pixels[block].astype(np.float64), spectra[block].astype(np.float64)
        phi = features(rows, TERMS)
        squared_weight = np.square(1 / (rows.mean(-1, keepdims=True) + WEIGHT_FLOOR))
        for index, weighted in enumerate((phi, phi * squared_weight)):
            normal[index] += weighted.T @ phi
            moments[index] += weighted.T @ y
        power += float(np.sum(np.square(y)))
    return Sums(normal, moments, power, spectra.size)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_PIXELS) for start in range(0, count, BLOCK_PIXELS))


def fit(pixels: Iterable[tuple[np.ndarray, np.ndarray]], name: str) -> Regression:
    """Fits one regression to pairs of rgb (…, 3) and spectra (…, S), read once.

    Raises:
        InputError: there are no pixels, or a value is not finite.
    """
    total = None
    for rgb, cube in pixels:
        total = sums(rgb, cube) if total is None else total + sums(rgb, cube)
    if total is None or not total.values:
        raise InputError("least-squares fit: found no pixels, expected at least one training scene")
    return total.fit(name)


def best_of(parts: list[Sums]) -> str:
    """Returns the name of the regression with the best PSNR in cross-validation over scenes.

    Scene i is in fold i mod `FOLDS`, and is scored by fits to the other folds; a single scene is scored by its own
    fits. PSNR is averaged over the scenes. It comes from the sums, so it is of values that are not clipped to [0, 1].

    Args:
        parts: sums of each scene.
    """
    scores: dict[str, list[float]] = {name: [] for name in REGRESSIONS}
    for fold in range(min(FOLDS, len(parts))):
        others = [part for index, part in enumerate(parts) if index % FOLDS != fold] or parts
        total = sum(others[1:], others[0])
        for name, found in scores.items():
            fitted = total.fit(name)
            # Where a fit is exact, rounding alone is left, and it may be negative.
            errors = [max(part.mean_square_error(fitted), 1e-14) for part in parts[fold::FOLDS]]
            found += [-10 * math.log10(error) for error in errors]
    return max(scores, key=lambda name: sum(scores[name]))
