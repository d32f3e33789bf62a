"""Cameras of simulated photos: sensitivities at 400-700 nm, measured ones and random ones from a basis."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float64

from m3sr_jax.io.wavelengths import BANDS

# Share of photos that a random camera takes; the measured ones share the rest equally.
RANDOM_SHARE = 0.6
MEASURED = ("CIE 1931", "Nikon 5100", "Sigma SDMerill")
# Standard deviation of the weight of each basis function beside the first, relative to the first's.
# The Nikon 5100 lies within 0.08 of 0 in each, the observer and the Sigma further out.
SPREAD = np.array([0.0, 0.12, 0.1, 0.08, 0.06, 0.05])


def draw_camera(rng: np.random.Generator) -> tuple[str, Float64[np.ndarray, "31 3"]]:
    """Draws a camera.

    Returns:
        its name and its sensitivities at `BANDS`, (31, 3), up to a factor per channel.
    """
    if rng.random() < RANDOM_SHARE:
        return "random", random_camera(rng)
    name = str(rng.choice(MEASURED))
    return name, measured_camera(name)


@functools.lru_cache(maxsize=8)
def measured_camera(name: str) -> Float64[np.ndarray, "31 3"]:
    """Returns the sensitivities of one of `MEASURED`; zero where the measurement ends before 700 nm."""
    import colour

    tables = {"CIE 1931": colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]}
    tables |= {name.removesuffix(" (NPL)"): table for name, table in colour.MSDS_CAMERA_SENSITIVITIES.items()}
    table = tables[name]
    columns = np.asarray(table.values, np.float64).T
    return np.stack([np.interp(BANDS, table.wavelengths, column, right=0.0) for column in columns], axis=1)


def random_camera(rng: np.random.Generator) -> Float64[np.ndarray, "31 3"]:
    """Draws sensitivities max(0, Σ wᵢ·basisᵢ), per channel, with w₁ = 1 and wᵢ normal.

    Source: J. Jiang, D. Liu, J. Gu and S. Süsstrunk, "What is the space of spectral sensitivity functions for digital
    color cameras?", 2013; the basis is that of S. Dyer et al., "RAW to ACES Utility Data", 2017, in colour-science.
    """
    from colour.recovery import BASIS_FUNCTIONS_DYER2017

    basis = np.asarray(BASIS_FUNCTIONS_DYER2017, np.float64).reshape(len(SPREAD), len(BANDS), 3)
    weights = rng.normal(0, SPREAD[:, None], (len(SPREAD), 3))
    weights[0] = 1
    return np.maximum(np.einsum("ic,ibc->bc", weights, basis), 0)
