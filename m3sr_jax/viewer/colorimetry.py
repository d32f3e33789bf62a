"""The colours of a cube: CIE 1931 × D65 to sRGB, or false colour where its bands do not cover visible light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from m3sr_jax.data.colorimetry import srgb_matrix
from m3sr_jax.io.photos.spaces import srgb_encode
from m3sr_jax.io.strips import strips

# A cube is shown in true colour if its bands reach at least from blue to red, in nm.
BLUE, RED = 480.0, 620.0
EXPOSURE_PERCENTILE = 99.5
DIFFERENCE_CODES = 20  # drawn brightest


@dataclass(frozen=True)
class Rendering:
    """A picture (H, W, 4) in sRGB, transparent where values are missing, and a description of its making."""

    rgba: UInt8[np.ndarray, "H W 4"]
    description: str


def render(
    cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"] | None, *, exposure: float | None = None
) -> Rendering:
    """Renders a cube for display.

    XYZ = Σ cube · D65 · colour-matching functions over the bands, scaled so that a cube of ones has D65's white; then
    linear sRGB × exposure, clipped to [0, 1] and encoded. Bands without any value are left out.

    Args:
        cube: reflectance, 1 = white.
        wavelengths: band centres in nm, ascending; None: unknown, which gives false colour.
        exposure: factor on linear light; None scales the 99.5th percentile of the largest channel to 1.

    Source: CIE 15 (2° standard observer, D65); IEC 61966-2-1 (sRGB).
    """
    filled = np.flatnonzero(np.any([np.isfinite(cube[rows]).any((0, 1)) for rows in strips(cube.shape)], axis=0))
    if 0 < len(filled) < cube.shape[2]:
        cube = cube[..., filled]
    else:
        filled = np.arange(cube.shape[2])
    if wavelengths is None:
        weights, description = _false_colour([f"{band + 1}" for band in filled], prefix="bands ")
    else:
        weights, description = display_matrix(wavelengths[filled])
    with np.errstate(invalid="ignore", over="ignore"):
        linear = cube @ weights.astype(np.float32)
    missing = np.asarray(~np.isfinite(linear).all(-1))
    if exposure is None:
        brightest = linear[~missing].max(-1) if not missing.all() else np.ones(1, np.float32)
        exposure = 1 / max(float(np.percentile(brightest, EXPOSURE_PERCENTILE)), 1e-9)
    picture = np.empty((*missing.shape, 4), np.uint8)
    for rows in strips(cube.shape):
        visible = np.clip(np.where(missing[rows, :, None], 0, linear[rows]) * np.float32(exposure), 0, 1)
        picture[rows, :, :3] = np.rint(srgb_encode(visible) * 255)
        picture[rows, :, 3] = np.where(missing[rows], 0, 255)
    return Rendering(picture, f"{description}, exposure × {exposure:.3g}")


def difference_picture(
    cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"], photo: Float32[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws the mean difference of R, G and B between a cube of reflectances and its photo, from black to bright.

    Args:
        cube: reflectance, 1 = white.
        wavelengths: band centres in nm, ascending.
        photo: sRGB values in [0, 1].
    """
    from matplotlib import colormaps

    drawn = render(cube, wavelengths, exposure=1.0).rgba[..., :3]
    for rows in strips(cube.shape):
        codes = np.abs(drawn[rows] - photo[rows] * np.float32(255)).mean(-1)
        drawn[rows] = colormaps["magma"](np.minimum(codes / DIFFERENCE_CODES, 1), bytes=True)[..., :3]
    return drawn


def display_matrix(wavelengths: Float[np.ndarray, " S"]) -> tuple[Float64[np.ndarray, "S 3"], str]:
    """Returns weights that map a spectrum to linear sRGB, and their description."""
    if len(wavelengths) < 3 or wavelengths[0] > BLUE or wavelengths[-1] < RED:
        return _false_colour([f"{nm:.0f}" for nm in wavelengths], unit=" nm")
    return srgb_matrix(wavelengths), "CIE 1931 × D65"


def _false_colour(names: list[str], prefix: str = "", unit: str = "") -> tuple[Float64[np.ndarray, "S 3"], str]:
    """Shows the last, the middle and the first band as R, G and B."""
    bands = [round(part * (len(names) - 1)) for part in (1.0, 0.5, 0.0)]
    weights = np.zeros((len(names), 3))
    weights[bands, range(3)] = 1.0
    return weights, f"false colour {prefix}" + " / ".join(names[band] for band in bands) + unit
