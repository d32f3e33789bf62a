"""Reflectances of simulated scenes: measured ones, changed a little, and paints mixed from them with white and black.

Measured collections hold many colours and few whites, while much of what people photograph is white, grey or a tint of
titanium white, which is dark below 415 nm. Paints are mixed by Kubelka and Munk's theory: the ratio of absorption to
scattering, K/S = (1 − ρ)² / 2ρ, of a mixture is the sum of its parts' ratios times their amounts, as long as one of
them, here the white, does nearly all of the scattering.

Source: P. Kubelka and F. Munk, "Ein Beitrag zur Optik der Farbanstriche", 1931; D. Duncan, "The colour of pigment
mixtures", 1940.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float64

from m3sr_jax.data.spectra import white_paint
from m3sr_jax.io.wavelengths import BANDS

# Standard deviation of the change of each principal component, relative to that of the measured reflectances.
JITTER = 0.15
COMPONENTS = 8
# Reflectances are kept this far from 0 and 1, where the logit is infinite.
EDGE = 0.003
# Shares of surfaces that are a pigment in white paint, and white paint with black alone.
TINTS, GREYS = 0.4, 0.15
# Amount of a tint's pigment, up to the pigment itself; K/S of the black, up to a ρ of 0.06.
PIGMENT_AMOUNT, BLACK_ABSORPTION = (0.03, 1.0), (0.001, 8.0)
# Standard deviation of the edge of white paint: titanium dioxide of other crystals and binders.
EDGE_NM = 4.0


@dataclasses.dataclass(frozen=True)
class Pigments:
    """Measured reflectances, the directions in which they vary, and what is painted with them.

    Attributes:
        logits: log(ρ / (1 − ρ)) of each reflectance, (N, S).
        directions: principal components of the logits times their standard deviations, (K, S).
    """

    logits: Float64[np.ndarray, "N S"]
    directions: Float64[np.ndarray, "K S"]

    @classmethod
    def of(cls, reflectances: Float64[np.ndarray, "N S"]) -> Pigments:
        """Prepares measured reflectances in [0, 1]."""
        inside = np.clip(reflectances, EDGE, 1 - EDGE)
        logits = np.log(inside / (1 - inside))
        centred = logits - logits.mean(axis=0)
        _, sizes, components = np.linalg.svd(centred, full_matrices=False)
        scaled = sizes[:, None] / np.sqrt(len(logits)) * components
        return cls(logits, scaled[:COMPONENTS])

    def draw(self, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count S"]:
        """Draws surfaces: pigments as they were measured, their tints, and greys, in the shares above."""
        share = rng.random((count, 1))
        pigments = self.changed(count, rng)
        black, amount = (between(ends, count, rng) for ends in (BLACK_ABSORPTION, PIGMENT_AMOUNT))
        added = np.where(share < GREYS, black, amount * absorption(pigments))
        painted = reflectance(absorption(whites(count, rng)) + added)
        return np.where(share < GREYS + TINTS, painted, pigments)

    def changed(self, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count S"]:
        """Draws measured reflectances with their logits changed by Σ zₖ·directionₖ, zₖ normal of deviation `JITTER`."""
        chosen = self.logits[rng.integers(len(self.logits), size=count)]
        change = rng.normal(0, JITTER, (count, len(self.directions))) @ self.directions
        return 1 / (1 + np.exp(-(chosen + change)))


def whites(count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count S"]:
    """Draws white paints, with edges at other wavelengths."""
    shifts = rng.normal(0, EDGE_NM, count)
    return np.stack([np.interp(BANDS - shift, BANDS, white_paint()) for shift in shifts])


def between(ends: tuple[float, float], count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count 1"]:
    """Draws numbers whose logarithms are uniform."""
    low, high = np.log(ends)
    return np.exp(rng.uniform(low, high, (count, 1)))


def absorption(reflectance: Float64[np.ndarray, "N S"]) -> Float64[np.ndarray, "N S"]:
    """Returns K/S = (1 − ρ)² / 2ρ of an opaque layer, its absorption in units of its scattering."""
    return (1 - reflectance) ** 2 / (2 * reflectance)


def reflectance(absorption: Float64[np.ndarray, "N S"]) -> Float64[np.ndarray, "N S"]:
    """Returns ρ = 1 + k − √(k² + 2k) of an opaque layer, k = K/S."""
    return 1 + absorption - np.sqrt(absorption**2 + 2 * absorption)
