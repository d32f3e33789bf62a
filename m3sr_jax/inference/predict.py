"""From one RGB image to its cube."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Float32

from m3sr_jax.errors import InputError


def predict(model: nn.Module, params: Any, rgb: Float[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W S"]:
    """Reconstructs the cube of one whole image in one pass.

    The program is compiled once for each model and image size; the model itself pads and crops back.

    Args:
        model: the network.
        params: its parameters.
        rgb: photo, (H, W, 3) in [0, 1], normalised as in training (see `normalise_rgb`).

    Returns:
        The cube, (H, W, S), unclamped.

    Raises:
        InputError: If the model refuses the image's size.
    """
    try:
        return np.asarray(_forward(model, params, rgb[None].astype(np.float32))[0], np.float32)
    except ValueError as error:
        raise InputError(f"image of {rgb.shape[0]}×{rgb.shape[1]} pixels: {error}") from error


@partial(jax.jit, static_argnums=0)
def _forward(model: nn.Module, params: Any, rgb: jax.Array) -> jax.Array:
    return model.apply({"params": params}, rgb)  # type: ignore[return-value]


def normalise_rgb(rgb: Float32[np.ndarray, "H W 3"], normalization: str) -> Float32[np.ndarray, "H W 3"]:
    """Scales an image the way a model's training images were.

    Args:
        rgb: (H, W, 3), pixel values over the format's largest one.
        normalization: "unit" leaves them; "minmax" is (x − min)/(max − min) over the whole image; an image of one
            value becomes zeros.

    Source: NTIRE 2022's reference code normalises its JPEG images by "minmax".
    """
    if normalization == "unit":
        return rgb
    if normalization != "minmax":
        raise ValueError(f'normalization is "unit" or "minmax", got {normalization!r}')
    low, high = rgb.min(), rgb.max()
    return (rgb - low) / np.float32(max(high - low, np.finfo(np.float32).tiny))
