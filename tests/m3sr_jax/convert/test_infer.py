"""Networks known by the tensors of their releases; tests/m3sr_jax/cli/test_convert.py has M3SR's."""

import jax
import numpy as np
import pytest

from m3sr_jax.config import ModelConfig
from m3sr_jax.convert import infer_model, params_to_release
from m3sr_jax.errors import InputError
from m3sr_jax.models import build_model, parameter_shapes
from m3sr_jax.networks import NETWORKS


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if name != "m3sr" and network.layout])
def test_a_baseline_is_known_with_its_bands(name):
    fields = ModelConfig(name=name, num_bands=31 if name == "hsrnet" else 28)
    model = build_model(fields)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), parameter_shapes(model))
    assert infer_model(params_to_release(params, model)) == fields


def test_an_essaformer_that_enlarges_cubes_is_refused_by_name():
    shapes = {"blockup.convup.attn.lnqkv.weight": (768, 256), "conv_first.weight": (256, 31, 3, 3)}
    with pytest.raises(InputError, match="ESSAformer that enlarges cubes of 31 bands: expected one for RGB"):
        infer_model({key: np.zeros(shape, np.float32) for key, shape in shapes.items()})
