"""A model is scored only on scenes of its own bands and normalisation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.compatibility import check_compatible
from m3sr_jax.model_card import ModelCard

NM = tuple(float(nm) for nm in range(400, 701, 10))


def card(nm=NM, normalization="unit"):
    return ModelCard(ModelConfig(num_bands=len(nm)), nm, rgb_normalization=normalization)


def test_a_model_for_other_bands_or_photos_is_refused(dataset):
    check_compatible(card(), dataset)
    check_compatible(card(normalization="minmax"), dataset)
    with pytest.raises(InputError, match=r"16 bands over 400-550 nm.*31 bands over 400-700 nm"):
        check_compatible(card(NM[:16]), dataset)
    with pytest.raises(InputError, match="31 bands over 410-710 nm"):
        check_compatible(card(tuple(nm + 10 for nm in NM)), dataset)
    dataset.valid.rgb_normalization = "minmax"
    check_compatible(card(normalization="minmax"), dataset)
    with pytest.raises(InputError, match=r'"unit".*"minmax"; score it on scenes like those it was trained on'):
        check_compatible(card(), dataset)


def test_a_converted_release_is_told_the_command_that_converts_it_for_these_photos(dataset, tmp_path):
    dataset.valid.rgb_normalization = "minmax"
    provenance = {"converted_from": "release.pth", "source": "my downloads/release.pth"}
    converted = dataclasses.replace(card(), camera="cie1964", provenance=provenance)
    told = "m3sr convert 'my downloads/release.pth' model --rgb-normalization minmax --overwrite --camera cie1964"
    with pytest.raises(InputError, match=told):
        check_compatible(converted, dataset, Path("model"))
    dataset.valid.wavelengths = np.asarray(NM) + 20
    converted = dataclasses.replace(converted, wavelengths=tuple(nm + 20 for nm in NM), camera="")
    with pytest.raises(InputError, match=r"--overwrite --wavelengths 420 720$"):
        check_compatible(converted, dataset, Path("model"))
