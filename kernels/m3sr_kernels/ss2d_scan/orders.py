"""The orders in which the four directions visit the pixels of an image.

Direction 0 goes along the rows and 1 down the columns; 2 and 3 are the same two backwards.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def to_sequence(image: jax.Array, direction: int) -> jax.Array:
    """(B, H, W, …) to (B, H·W, …), the pixels in the order in which `direction` visits them."""
    if direction % 2:
        image = jnp.swapaxes(image, 1, 2)
    batch, height, width, *rest = image.shape
    sequence = image.reshape(batch, height * width, *rest)
    return sequence[:, ::-1] if direction >= 2 else sequence


def to_image(sequence: jax.Array, direction: int, height: Any, width: Any) -> jax.Array:
    """The inverse of `to_sequence`; sizes may be symbolic."""
    if direction >= 2:
        sequence = sequence[:, ::-1]
    shape = (width, height) if direction % 2 else (height, width)
    image = sequence.reshape(sequence.shape[0], *shape, *sequence.shape[2:])
    return jnp.swapaxes(image, 1, 2) if direction % 2 else image
