"""The five scores of spectral reconstruction, one number an image.

Conventions, once for the whole module: `prediction` and `target` are cubes (B, H, W, S), channels last, in [0, 1] with
S bands; the result is (B,), one score an image over the whole region given (crop first: see
`m3sr_jax.evaluation.protocols`). A data set's score is the mean over its images. Half-precision cubes are scored in
float32, float64 ones in float64.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Cubes = Float[Array, "B H W S"] | Float[np.ndarray, "B H W S"]


def _scored(prediction: Cubes, target: Cubes) -> tuple[Float[Array, "B H W S"], Float[Array, "B H W S"]]:
    """Both cubes in one dtype, float32 or wider. Shapes that merely broadcast are refused: the score would lie."""
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise ValueError(
            f"metrics compare two (B, H, W, S) cubes of one shape, got {prediction.shape} and {target.shape}"
        )
    dtype = jnp.float64 if jnp.float64 in (prediction.dtype, target.dtype) else jnp.float32
    return jnp.asarray(prediction, dtype), jnp.asarray(target, dtype)


def _image_mean(values: Float[Array, "B H W S"]) -> Float[Array, " B"]:
    """Mean over an image, axis by axis: one float32 running sum over 482×512×31 values would lose three digits."""
    return values.mean(-1).mean(-1).mean(-1)


@partial(jax.jit, static_argnames="epsilon")
def mrae(prediction: Cubes, target: Cubes, *, epsilon: float = 0.0) -> Float[Array, " B"]:
    """Computes the mean relative absolute error, mean |X − Y| / max(Y, epsilon).

    Args:
        prediction: X, (B, H, W, S), any range: clip it or not before the call, the score does not.
        target: Y, (B, H, W, S), in [0, 1].
        epsilon: Floor put under Y in the denominator. With 0 (the NTIRE definition) a zero in Y gives inf, or nan
            where X is zero too: data with exact zeros, CAVE for one, need a floor, and it belongs beside the score.

    Returns:
        (B,) errors, ≥ 0, no unit.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W, S).

    Source: NTIRE 2020 and 2022 challenges on spectral recovery from RGB images, equation of MRAE.
    """
    x, y = _scored(prediction, target)
    return _image_mean(jnp.abs(x - y) / jnp.maximum(y, jnp.asarray(epsilon, y.dtype)))


@jax.jit
def rmse(prediction: Cubes, target: Cubes) -> Float[Array, " B"]:
    """Computes the root mean squared error, sqrt(mean (X − Y)²), one root an image.

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S), in [0, 1].

    Returns:
        (B,) errors in the unit of the cubes.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W, S).

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
        mode: "cube" takes one MSE over all bands; "band" the mean over bands of each band's PSNR, which is never lower.

    Returns:
        (B,) ratios in dB.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W, S), or the mode is neither of the two.

    Source: the definition of PSNR for a signal with peak 1.
    """
    if mode not in ("cube", "band"):
        raise ValueError(f'psnr mode is "cube" or "band", got {mode!r}')
    x, y = _scored(prediction, target)
    squared = jnp.square(jnp.clip(x, 0, 1) - jnp.clip(y, 0, 1))
    if mode == "cube":
        return -10 * jnp.log10(_image_mean(squared))
    return (-10 * jnp.log10(squared.mean(2).mean(1))).mean(-1)


@jax.jit
def sam(prediction: Cubes, target: Cubes) -> Float[Array, " B"]:
    """Computes the spectral angle, the mean over pixels of arccos(<x, y> / (|x|·|y|)), in degrees.

    The angle is taken as 2·atan2(|u − v|, |u + v|) of the unit spectra u, v: the same number, but arccos near 1 keeps
    half of float32's digits only, just where a good reconstruction lies. Nor does it need the cosine clipped.

    Args:
        prediction: (B, H, W, S).
        target: (B, H, W, S).

    Returns:
        (B,) angles in degrees, in [0, 180]. Pixels where either spectrum has norm zero have no angle and are left
        out of the mean; an image with no other pixels gives nan.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W, S).

    Source: Kruse et al., "The spectral image processing system (SIPS)", 1993; the atan2 form is Kahan's.
    """
    x, y = _scored(prediction, target)
    x_norm, y_norm = jnp.linalg.norm(x, axis=-1, keepdims=True), jnp.linalg.norm(y, axis=-1, keepdims=True)
    has_angle = (x_norm > 0) & (y_norm > 0)
    u, v = x / jnp.where(has_angle, x_norm, 1), y / jnp.where(has_angle, y_norm, 1)
    angle = 2 * jnp.arctan2(jnp.linalg.norm(u - v, axis=-1), jnp.linalg.norm(u + v, axis=-1))
    counted = has_angle[..., 0]
    total = jnp.where(counted, angle, 0).sum(-1).sum(-1)
    return jnp.rad2deg(total / counted.sum((-2, -1)).astype(total.dtype))


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
        window: Width of the Gaussian window in pixels.
        sigma: Its standard deviation in pixels.

    Returns:
        (B,) similarities in [−1, 1], 1 for equal images.

    Raises:
        ValueError: If the shapes differ, are not (B, H, W, S), or the image is smaller than the window.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13.
    """
    x, y = _scored(prediction, target)
    if min(x.shape[1:3]) < window:
        raise ValueError(f"mssim needs at least {window}×{window} pixels for its window, got {x.shape[1]}×{x.shape[2]}")
    taps = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / sigma) ** 2)
    taps = jnp.asarray(taps / taps.sum(), x.dtype)
    # One band at a time: its maps stay in cache, and the working memory is a thirtieth of the cube.
    by_band = jax.lax.map(lambda pair: _ssim(pair[0], pair[1], taps), (jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0)))
    return by_band.mean(0)


def _ssim(x: Float[Array, "B H W"], y: Float[Array, "B H W"], taps: Float[Array, " K"]) -> Float[Array, " B"]:
    """SSIM of one band, written as (1 − (μx − μy)²/·)(1 − var(x − y)/·).

    Algebraically the textbook form; numerically E[xy] − μx·μy, a small difference of large numbers, is gone from the
    numerator, and one blur of five is saved.
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
    """Weighted window means, rows then columns, only where the window lies inside the image."""
    blur = partial(
        jax.lax.conv_general_dilated, window_strides=(1, 1), padding="VALID", precision=jax.lax.Precision.HIGHEST
    )
    rows = blur(image[:, None], taps[None, None, :, None])
    return blur(rows, taps[None, None, None, :])[:, 0]
