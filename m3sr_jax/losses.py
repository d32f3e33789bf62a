"""Training losses: (prediction, target) → one scalar for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

Loss = Callable[[Float[Array, "B H W S"], Float[Array, "B H W S"]], Float[Array, ""]]


def mae(prediction: Float[Array, "B H W S"], target: Float[Array, "B H W S"]) -> Float[Array, ""]:
    """Computes the mean absolute error, mean |X − Y| over the whole batch.

    Args:
        prediction: X, (B, H, W, S), any floating type; taken to the target's before the difference, so that a
            bfloat16 model is trained on a float32 loss.
        target: Y, (B, H, W, S), in [0, 1], float32 or float64.

    Returns:
        A scalar ≥ 0 in the unit of the cubes.

    Raises:
        ValueError: If the shapes differ.

    Source: the M3SR paper's training loss.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"mae compares arrays of one shape, got {prediction.shape} and {target.shape}")
    return jnp.mean(jnp.abs(prediction.astype(target.dtype) - target))


LOSSES: Mapping[str, Loss] = {"mae": mae}
