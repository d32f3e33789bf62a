"""The metrics of spectral reconstruction: MRAE, RMSE, PSNR, SAM and MSSIM, one score per image.

Conventions of the whole module: `prediction` and `target` are cubes (B, H, W, S), channels last, in [0, 1] with
S bands; the result is (B,), one score per image over all its pixels (`m3sr_jax.evaluation.protocols` crops). A
data set's score is the mean over its images. Half-precision cubes are scored in float32, float64 ones in float64.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Cubes = Float[Array, "B H W S"] | Float[np.ndarray, "B H W S"]


BRIGHT = 0.05  # of the norm of white


def _scored(prediction: Cubes, target: Cubes) -> tuple[Float[Array, "B H W S"], Float[Array, "B H W S"]]:
    """Casts both cubes to float32 or wider. Rejects shapes that merely broadcast: the score would be wrong."""
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise ValueError(
            f"metrics compare two (B, H, W, S) cubes of one shape, got {prediction.shape} and {target.shape}"
        )
    dtype = jnp.float64 if jnp.float64 in (prediction.dtype, target.dtype) else jnp.float32
    return jnp.asarray(prediction, dtype), jnp.asarray(target, dtype)


def _image_mean(values: Float[Array, "B H W S"]) -> Float[Array, " B"]:
    """Averages over an image, axis by axis: one float32 sum of 482×512×31 values would lose three digits."""
    return values.mean(-1).mean(-1).mean(-1)


@partial(jax.jit, static_argnames="mrae_floor")
def mrae(prediction: Cubes, target: Cubes, *, mrae_floor: float = 0.0) -> Float[Array, " B"]:
    """Computes the mean relative absolute error, mean |X − Y| / max(Y, mrae_floor).

    Args:
        prediction: X, (B, H, W, S), any range; it is not clipped.
        target: Y, (B, H, W, S), in [0, 1].
        mrae_floor: lower limit of the denominator. With 0 (the NTIRE definition) a zero in Y gives inf, or nan where
            X is zero too. Data with exact zeros, such as CAVE, need a floor, and it has to be reported with the score.

    Returns:
        (B,) errors ≥ 0 without a unit.

    Raises:
        ValueError: the shapes differ or are not (B, H, W, S).

    Source: NTIRE 2020 and 2022 challenges on spectral recovery from RGB images, equation of MRAE.
    """
    x, y = _scored(prediction, target)
    return _image_mean(jnp.abs(x - y) / jnp.maximum(y, jnp.asarray(mrae_floor, y.dtype)))


@jax.jit
def rmse(prediction: Cubes, target: Cubes) -> Float[Array, " B"]:
    """Computes the root mean squared error, sqrt(mean (X − Y)²), one root per image.

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S), in [0, 1].

    Returns:
        (B,) errors in the unit of the cubes.

    Raises:
        ValueError: the shapes differ or are not (B, H, W, S).

    Source: NTIRE 2020 and 2022 challenges on spectral recovery from RGB images, equation of RMSE.
    """
    x, y = _scored(prediction, target)
    return jnp.sqrt(_image_mean(jnp.square(x - y)))


@partial(jax.jit, static_argnames="mode")
def psnr(prediction: Cubes, target: Cubes, *, mode: Literal["cube", "band"] = "cube") -> Float[Array, " B"]:
    """Computes the peak signal-to-noise ratio, 10·log10(1 / MSE) with both cubes clipped to [0, 1] and a peak of 1.

    Where nothing is clipped, "cube" equals −20·log10(rmse). Equal images give inf.

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S).
        mode: "cube" takes one MSE over all bands; "band" averages the bands' PSNR, which is never lower.

    Returns:
        (B,) ratios in dB.

    Raises:
        ValueError: the shapes differ or are not (B, H, W, S), or the mode is unknown.

    Source: the definition of PSNR for a signal with peak 1.
    """
    if mode not in ("cube", "band"):
        raise ValueError(f'psnr mode is "cube" or "band", got {mode!r}')
    x, y = _scored(prediction, target)
    squared = jnp.square(jnp.clip(x, 0, 1) - jnp.clip(y, 0, 1))
    if mode == "cube":
        return -10 * jnp.log10(_image_mean(squared))
    return (-10 * jnp.log10(squared.mean(2).mean(1))).mean(-1)


@partial(jax.jit, static_argnames="min_norm")
def sam(prediction: Cubes, target: Cubes, *, min_norm: float = 0.0) -> Float[Array, " B"]:
    """Computes the spectral angle, the mean over pixels of arccos(<x, y> / (|x|·|y|)), in degrees.

    Args:
        prediction: (B, H, W, S).
        target: (B, H, W, S).
        min_norm: norm of the target that a pixel must exceed, as a share of √S, the norm of white.

    Returns:
        (B,) angles in degrees, in [0, 180]. Pixels where a spectrum has norm zero have no angle and are left out of
        the mean; an image of such pixels alone gives nan.

    Raises:
        ValueError: the shapes differ or are not (B, H, W, S).

    Source: Kruse et al., "The spectral image processing system (SIPS)", 1993.
    """
    x, y = _scored(prediction, target)
    angle, counted = spectral_angle(x, y)
    if min_norm:
        counted &= jnp.linalg.norm(y, axis=-1) > min_norm * y.shape[-1] ** 0.5
    total = jnp.where(counted, angle, 0).sum(-1).sum(-1)
    return jnp.rad2deg(total / counted.sum((-2, -1)).astype(total.dtype))


def sam_bright(prediction: Cubes, target: Cubes) -> Float[Array, " B"]:
    """Computes the spectral angle over bright pixels, whose true spectrum has more than 5 % of the norm of white.

    The angle of a nearly black pixel is mostly noise, yet in `sam` it counts as much as any other.
    """
    return sam(prediction, target, min_norm=BRIGHT)


def spectral_angle(x: Float[Any, "*pixels S"], y: Float[Any, "*pixels S"]) -> tuple[Any, Any]:
    """Computes the angle between two spectra (…, S), in radians, and whether it is defined: neither norm is zero.

    Takes NumPy and JAX arrays, as `unit_angle` does.
    """
    xp = x.__array_namespace__()
    x_norm, y_norm = (xp.linalg.norm(spectra, axis=-1, keepdims=True) for spectra in (x, y))
    defined = ~((x_norm == 0) | (y_norm == 0))  # a NaN is no zero: it must show
    u, v = (spectra / xp.where(defined, norm, 1) for spectra, norm in ((x, x_norm), (y, y_norm)))
    return unit_angle(u, v), defined[..., 0]


def unit_angle(u: Float[Any, "*pixels S"], v: Float[Any, "*pixels S"], epsilons: tuple[float, float] = (0, 0)) -> Any:
    """Computes the angle between unit spectra, 2·atan2(|u − v|, |u + v|), in radians.

    The same number as arccos <u, v>, but arccos near 1, where good reconstructions lie, keeps only half of the digits.

    Positive `epsilons`, added to |u − v|² and |u + v|², keep its gradient finite at angles of 0 and π.

    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006.
    """
    xp = u.__array_namespace__()
    gap, total = (
        xp.sqrt(xp.square(spectra).sum(-1) + xp.asarray(epsilon, dtype=spectra.dtype))
        for spectra, epsilon in zip((u - v, u + v), epsilons, strict=True)
    )
    return 2 * xp.arctan2(gap, total)


@partial(jax.jit, static_argnames=("window", "sigma"))
def mssim(prediction: Cubes, target: Cubes, *, window: int = 11, sigma: float = 1.5) -> Float[Array, " B"]:
    """Computes the mean over bands of the structural similarity, with a Gaussian window and a data range of 1.

    With means μ, variances σ² and covariance σxy under the window, C1 = 0.01², C2 = 0.03²:
    SSIM = (2·μx·μy + C1)(2·σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2)), averaged over the pixels whose window lies
    inside the image. Equal, band by band, to scikit-image's `structural_similarity` with `gaussian_weights=True`,
    `sigma=1.5`, `use_sample_covariance=False` and `data_range=1`.

    Args:
        prediction: (B, H, W, S).
        target: (B, H, W, S).
        window: width of the Gaussian window in pixels.
        sigma: standard deviation of the window in pixels.

    Returns:
        (B,) similarities in [−1, 1], 1 for equal images.

    Raises:
        ValueError: the shapes differ or are not (B, H, W, S), or the image is smaller than the window.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13.
    """
    x, y = _scored(prediction, target)
    if min(x.shape[1:3]) < window:
        raise ValueError(f"mssim needs at least {window}×{window} pixels for its window, got {x.shape[1]}×{x.shape[2]}")
    taps = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / sigma) ** 2)
    taps = jnp.asarray(taps / taps.sum(), x.dtype)
    # One band at a time: its maps stay in cache and take a thirtieth of the cube's memory.
    by_band = jax.lax.map(lambda pair: _ssim(pair[0], pair[1], taps), (jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)))
    return by_band.mean(0)


def _ssim(x: Float[Array, "B H W"], y: Float[Array, "B H W"], taps: Float[Array, " K"]) -> Float[Array, " B"]:
    """SSIM of one band, written as (1 − (μx − μy)²/·)(1 − var(x − y)/·).

    Algebraically this is the textbook form. Numerically it avoids E[xy] − μx·μy, a small difference of large numbers,
    and it needs four blurs instead of five.
    """
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = _blur(x, taps), _blur(y, taps)
    power = jnp.square(mean_x) + jnp.square(mean_y)
    variances = _blur(jnp.square(x) + jnp.square(y), taps) - power
    mean_gap = jnp.square(mean_x - mean_y)
    variance_of_gap = _blur(jnp.square(x - y), taps) - mean_gap
    similarity = (1 - mean_gap / (power + c1)) * (1 - variance_of_gap / (variances + c2))
    return similarity.mean(-1).mean(-1)


def _blur(image: Float[Array, "B H W"], taps: Float[Array, " K"]) -> Float[Array, "B h w"]:
    """Computes weighted means, rows then columns, where the window lies inside the image."""
    blur = partial(
        jax.lax.conv_general_dilated, window_strides=(1, 1), padding="VALID", precision=jax.lax.Precision.HIGHEST
    )
    rows = blur(image[:, None], taps[None, None, :, None])
    return blur(rows, taps[None, None, None, :])[:, 0]
