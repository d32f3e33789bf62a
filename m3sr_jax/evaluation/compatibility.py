"""Whether a model can be scored on a data set."""

from __future__ import annotations

import numpy as np

from m3sr_jax.data.scenes import Dataset
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import same_bands, span
from m3sr_jax.model_card import ModelCard


def check_compatible(card: ModelCard, dataset: Dataset) -> None:
    """Compares bands and RGB normalisation of a model with those of the held-out scenes.

    Raises:
        InputError: the bands differ, or the photos are stored with another normalisation, which cannot be undone.
    """
    source, model_nm = dataset.valid, np.asarray(card.wavelengths)
    if not same_bands(model_nm, source.wavelengths):
        model, scenes = (f"{len(nm)} bands over {span(nm)}" for nm in (model_nm, source.wavelengths))
        raise InputError(f"the model predicts {model}, the scenes of {dataset.name} have {scenes}; expected the same")
    if source.rgb_normalization not in ("unit", card.rgb_normalization):
        raise InputError(
            f'the model expects photos normalised by "{card.rgb_normalization}", found those of {dataset.name} stored '
            f'normalised by "{source.rgb_normalization}"; if a converted checkpoint was trained on such photos, run '
            f"`m3sr convert --rgb-normalization {source.rgb_normalization}`"
        )
