"""Self-ensemble: a prediction averaged over the eight symmetries of the square."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Shaped

from m3sr_jax.data.pipeline import turned

# (quarter turns, mirrored afterwards or not): the four rotations and the four flips.
SYMMETRIES = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))


def restore(image: Shaped[np.ndarray, "H W C"], turns: int, mirrored: bool) -> Shaped[np.ndarray, "h w C"]:
    """Inverts `m3sr_jax.data.pipeline.turned` by undoing its steps in reverse order."""
    return np.rot90(image[:, ::-1] if mirrored else image, -turns)


def self_ensemble(
    run: Callable[[Float32[np.ndarray, "H W 3"]], Float32[np.ndarray, "H W S"]], rgb: Float32[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "H W S"]:
    """Computes the mean of restore(run(turned(rgb))) over the eight symmetries.

    Args:
        run: the network; maps an image to a cube.
        rgb: photo, (H, W, 3).

    Returns:
        The mean cube, (H, W, S).

    Source: Timofte et al., "Seven ways to improve example-based single image super resolution" (2016).
    """
    cubes = (restore(run(np.ascontiguousarray(turned(rgb, *pose))), *pose) for pose in SYMMETRIES)
    return np.multiply(functools.reduce(np.add, cubes), np.float32(1 / len(SYMMETRIES)))
