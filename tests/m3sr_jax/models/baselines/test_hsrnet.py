import pytest

from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.models import build_model


def test_other_band_counts_are_refused():
    with pytest.raises(InputError, match="num_bands=28: HSRNet has 31 bands, in groups of 6, 10, 15"):
        build_model(ModelConfig("hsrnet", num_bands=28))
