"""A model is scored only on scenes of its own bands and normalisation."""

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
    with pytest.raises(InputError, match=r'"unit".*"minmax"'):
        check_compatible(card(), dataset)
