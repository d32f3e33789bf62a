"""Whether a model can be scored on a data set."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from m3sr_jax.data.scenes import Dataset
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import same_bands, span
from m3sr_jax.model_card import ModelCard


def check_compatible(card: ModelCard, dataset: Dataset, checkpoint: Path | None = None) -> None:
    """Compares bands and RGB normalisation of a model with those of the held-out scenes.

    Args:
        card: the model's.
        dataset: the scenes.
        checkpoint: the model's folder, for advice.

    Raises:
        InputError: the bands differ, or the photos are stored with another normalisation, which cannot be undone.
    """
    source, model_nm = dataset.valid, np.asarray(card.wavelengths)
    if not same_bands(model_nm, source.wavelengths):
        model, scenes = (f"{len(nm)} bands over {span(nm)}" for nm in (model_nm, source.wavelengths))
        raise InputError(f"the model predicts {model}, the scenes of {dataset.name} have {scenes}; expected the same")
    if source.rgb_normalization not in ("unit", card.rgb_normalization):
        raise InputError(
            f'the model expects photos normalised by "{card.rgb_normalization}", found those of {dataset.name} '
            f'normalised by "{source.rgb_normalization}"; {_advice(card, source.rgb_normalization, checkpoint)}'
        )
    if card.encoding != source.encoding:
        raise InputError(
            f'the model takes RGB of encoding "{card.encoding}", the photos of {dataset.name} are "{source.encoding}"; '
            "expected the same; score cubes of a model for photos, by `m3sr predict`, with `m3sr score CUBES TRUTH`"
        )


def _advice(card: ModelCard, normalization: str, checkpoint: Path | None) -> str:
    """Says how to convert a release again; a model trained here needs other scenes."""
    release = card.provenance.get("converted_from")
    if release is None:
        return "score it on scenes like those it was trained on, or train a model on these"
    command = ["m3sr", "convert", str(card.provenance.get("source", release)), str(checkpoint or "OUTPUT")]
    command += ["--rgb-normalization", normalization, "--overwrite"]
    nm = card.wavelengths
    if (nm[0], nm[-1]) != (400.0, 700.0):
        command += ["--wavelengths", f"{nm[0]:g}", f"{nm[-1]:g}"]
    if card.camera:
        command += ["--camera", card.camera]
    return f"if the release was trained on such photos, as on NTIRE 2022, convert it again: {shlex.join(command)}"
