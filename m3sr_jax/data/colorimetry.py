"""What a cube looks like: the weights of its bands that give linear sRGB for the CIE 1931 observer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from m3sr_jax.data.camera import WHITE, Camera


def srgb_matrix(wavelengths: Float[np.ndarray, " S"]) -> Float64[np.ndarray, "S 3"]:
    """Returns the weights of a cube's bands that give linear sRGB under D65: rgb = cube · matrix; ones are white.

    Source: CIE 15 (2° standard observer, D65); IEC 61966-2-1 (sRGB).
    """
    import colour

    observer = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    nm = np.asarray(observer.wavelengths, np.float64)
    lamp = colour.SDS_ILLUMINANTS["D65"]
    power = np.interp(nm, np.asarray(lamp.wavelengths), np.asarray(lamp.values))
    responses = np.asarray(observer.values, np.float64) * power[:, None]
    to_xyz = Camera("CIE 1931 × D65", nm, responses).matrix(wavelengths) / WHITE  # each column sums to 1
    to_rgb = np.asarray(colour.RGB_COLOURSPACES["sRGB"].matrix_XYZ_to_RGB, np.float64)
    white = np.linalg.solve(to_rgb, np.ones(3))
    return (to_xyz * white) @ to_rgb.T
