"""Training losses: (prediction, target) → one scalar for a batch.

Conventions: cubes (B, H, W, S), channels last, in [0, 1]. The prediction may have any floating type; it is first cast
to the target's (float32 or float64), so that a bfloat16 model is trained on a float32 loss. Cubes of different shapes
raise ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from m3sr_jax.config import LossConfig
from m3sr_jax.evaluation.metrics import unit_angle
from m3sr_jax.models.wavelets import dwt2

Loss = Callable[[Float[Array, "B H W S"], Float[Array, "B H W S"]], Float[Array, ""]]
# Added to squared norms. For spectra: a pixel with a norm below 1e-3 is mostly noise, and this keeps the slope of its
# angle below 1000. For differences: it keeps the slope finite where spectra agree.
SPECTRUM_EPSILON, DIFFERENCE_EPSILON = 1e-6, 1e-12


def mae(prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"]) -> Float[Array, ""]:
    """Computes the mean absolute error, mean |X − Y| over the whole batch.

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S).

    Returns:
        A scalar ≥ 0 in the unit of the cubes.

    Source: the M3SR paper's training loss.
    """
    return jnp.mean(jnp.abs(_difference(prediction, target)))


def mrae(
    prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"], *, mrae_floor: float = 1e-3
) -> Float[Array, ""]:
    """Computes the mean relative absolute error, mean |X − Y| / max(Y, mrae_floor).

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S).
        mrae_floor: lower limit of the denominator, without which a zero in Y makes the loss infinite and one dark pixel
            outweighs an image.

    Returns:
        A scalar ≥ 0 without a unit.

    Source: the training loss of the MST++ toolbox, whose denominator is Y without a floor.
    """
    denominator = jnp.maximum(target, jnp.asarray(mrae_floor, target.dtype))
    return jnp.mean(jnp.abs(_difference(prediction, target)) / denominator)


def spectral_angle(prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"]) -> Float[Array, ""]:
    """Computes the mean angle between the spectra of a pixel, in radians.

    2·atan2(|u − v|, |u + v|) with u = x/√(|x|² + 1e-6), v likewise; pixels with a norm below 1e-3 count less. The
    arccos of <u, v>, the same number, has an infinite slope where spectra are equal.

    Args:
        prediction: (B, H, W, S).
        target: (B, H, W, S).

    Returns:
        A scalar in [0, π].

    Source: Kruse et al. 1993; the atan2 form is Kahan's.
    """
    _difference(prediction, target)
    u, v = _direction(prediction.astype(target.dtype)), _direction(target)
    # The larger constant in the second norm makes the angle of two black pixels nearly zero.
    return jnp.mean(unit_angle(u, v, (DIFFERENCE_EPSILON, SPECTRUM_EPSILON)))


def wavelet(prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"]) -> Float[Array, ""]:
    """Computes the mean absolute error of the four bands of a one-level orthonormal Haar transform over space.

    mean |W(X) − W(Y)|: errors of one sign over 2×2 pixels count twice as much as in MAE, in one of the four bands;
    edges and texture count in the other three. Odd sizes are padded with zeros.

    Args:
        prediction: X, (B, H, W, S).
        target: Y, (B, H, W, S).

    Returns:
        A scalar ≥ 0.

    Source: the transform of the frequency branch; its use as a loss is ours, not the paper's.
    """
    difference = _difference(prediction, target)
    height, width = difference.shape[1:3]
    difference = jnp.pad(difference, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return jnp.mean(jnp.abs(dwt2(difference)))  # the transform is linear


LOSSES: Mapping[str, Loss] = {"mae": mae, "mrae": mrae, "spectral_angle": spectral_angle, "wavelet": wavelet}


def weighted_loss(config: LossConfig) -> Loss:
    """Returns the weighted sum Σ weight · loss over the nonzero weights of a configuration."""
    terms: dict[str, Loss] = {**LOSSES, "mrae": partial(mrae, mrae_floor=config.mrae_floor)}
    used = [(getattr(config, name), loss) for name, loss in terms.items() if getattr(config, name)]
    if len(used) == 1 and used[0][0] == 1:
        return used[0][1]

    def total(prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"]) -> Float[Array, ""]:
        values = [weight * loss(prediction, target) for weight, loss in used]
        return jnp.sum(jnp.stack(values))

    return total


def _difference(prediction: Array, target: Array) -> Array:
    if prediction.shape != target.shape:
        raise ValueError(f"a loss compares arrays of one shape, got {prediction.shape} and {target.shape}")
    return prediction.astype(target.dtype) - target


def _direction(spectra: Array) -> Array:
    squares = jnp.sum(jnp.square(spectra), axis=-1, keepdims=True)
    return spectra / jnp.sqrt(squares + jnp.asarray(SPECTRUM_EPSILON, spectra.dtype))
