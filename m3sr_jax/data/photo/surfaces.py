"""Reflectances of simulated scenes: measured ones, changed a little so that no two scenes share a pigment."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float64

# Standard deviation of the change of each principal component, relative to that of the measured reflectances.
JITTER = 0.15
COMPONENTS = 8
# Reflectances are kept this far from 0 and 1, where the logit is infinite.
EDGE = 0.003


@dataclasses.dataclass(frozen=True)
class Pigments:
    """Measured reflectances and the directions in which they vary.

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
        """Draws reflectances: 1 / (1 + exp(−(logit(ρ) + Σ zₖ·directionₖ))) with zₖ normal of deviation `JITTER`."""
        chosen = self.logits[rng.integers(len(self.logits), size=count)]
        change = rng.normal(0, JITTER, (count, len(self.directions))) @ self.directions
        return 1 / (1 + np.exp(-(chosen + change)))
