"""The regression that a run starts from: a network's base, or the first output of M3SR and MST++."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from m3sr_jax.config import Config
from m3sr_jax.data.augmentation import make_augmentation
from m3sr_jax.data.colorimetry import srgb_matrix
from m3sr_jax.data.pipeline import Batches, train_batches
from m3sr_jax.data.scenes import Dataset
from m3sr_jax.models.base import with_colours, with_linear_start, with_regression
from m3sr_jax.regression import fit

# At most 20 numbers per band are fitted, so that these pixels determine them, and as many scenes as there are crops.
FITTED_PIXELS = 2**20
LINEAR = "root1"  # without a constant, as the networks' first convolutions have none


def with_fit(config: Config, dataset: Dataset, params: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that a new run starts from, with the regression that the configuration asks for.

    The fit is to the training batches that the network will see first, augmented, without their clipped pixels.

    Args:
        config: `model.base` and `train.start` say what to fit.
        dataset: the training scenes.
        params: as drawn for the model.
    """
    if config.model.exact_colour:
        params = with_colours(params, srgb_matrix(dataset.train.wavelengths))
    if config.model.base != "none":
        return with_regression(params, fit(_pixels(config, dataset), config.model.base))
    if config.train.start == "least_squares":
        return with_linear_start(params, fit(_pixels(config, dataset), LINEAR))
    return params


def configured_batches(config: Config, dataset: Dataset, **shard: int) -> Batches:
    """Returns the training batches of a run; `shard` is for `train_batches`."""
    data, train = config.data, dataset.train
    return train_batches(
        train,
        batch_size=data.batch_size,
        crop_size=data.crop_size,
        seed=config.seed,
        num_workers=data.num_workers,
        skip_bad_scenes=dataset.skip_bad_scenes,
        augmentation=make_augmentation(data, train),
        patch_size=data.patch_size,
        **shard,
    )


def _pixels(config: Config, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rgb (P, 3) and spectra (P, S) of about `FITTED_PIXELS`, and of at least as many crops as scenes."""
    data, batches = config.data, configured_batches(config, dataset)
    crops = max(len(dataset.train), math.ceil(FITTED_PIXELS / data.crop_size**2))
    every = math.ceil(crops * data.crop_size**2 / (2 * FITTED_PIXELS))  # above 1 for many large crops
    try:
        for _ in range(math.ceil(crops / data.batch_size)):
            batch = next(batches)
            rgb, cube = (batch[key].reshape(-1, batch[key].shape[-1]) for key in ("rgb", "cube"))
            seen = ~batch["clipped"].reshape(-1) if "clipped" in batch else np.ones(len(rgb), bool)
            yield rgb[seen][::every], cube[seen][::every]
    finally:
        batches.close()
