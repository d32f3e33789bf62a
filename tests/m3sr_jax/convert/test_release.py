"""Release weights to ours and back."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from m3sr_jax.convert import infer_model, params_from_release, params_to_release
from m3sr_jax.errors import InputError
from m3sr_jax.models import M3SR, build_model, create, parameter_shapes


def zeros(model):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), parameter_shapes(model))


def test_round_trip_is_exact(state_dict, params, model):
    back = params_to_release(params, model)
    assert list(back) == list(state_dict)
    for key, value in state_dict.items():
        assert back[key].dtype == np.float32
        np.testing.assert_array_equal(back[key], np.zeros_like(value) if ".mlp." in key else value)
    again = params_from_release(back, model)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, params))


def test_every_parameter_is_filled(params, model):
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, zeros(model))


def test_kernels_change_from_channels_first_to_channels_last(state_dict, params):
    unet = params["unet_0"]
    down = state_dict["body.0.encoder_layers.0.1.weight"]
    assert unet["down_0"]["kernel"][1, 2, 3, 4] == down[4, 3, 1, 2]
    up = state_dict["body.0.decoder_layers.0.0.weight"]
    assert unet["up_1"]["kernel"][5, 0, 1, 6] == up[5, 6, 0, 1]
    scan = state_dict["body.0.bottleneck.blocks.0.fre_mamba.att_spa.conv2d.1.weight"]
    assert unet["bottleneck"]["block_0"]["frequency"]["residual"]["ss2d"]["conv_kernel"][0, 2, 7] == scan[7, 0, 0, 2]
    mixer = unet["decoder_0"]["block_0"]["spectral"]["mixer"]
    conv = state_dict["body.0.decoder_layers.1.2.blocks.0.spe_mamba.mamba.conv1d.weight"]
    assert mixer["conv_kernel"][3, 8] == conv[8, 0, 3]


@pytest.mark.parametrize(("groups", "count"), [(2, 2_785_258), (4, 2_887_062), (8, 3_090_670), (16, 3_497_886)])
def test_release_layout_has_the_release_s_parameters(groups, count):
    model = M3SR(num_groups=groups)
    state_dict = params_to_release(zeros(model), model)
    assert sum(math.prod(value.shape) for value in state_dict.values()) == count


@pytest.mark.parametrize(
    "fields",
    [
        {"num_stages": 2, "num_blocks": (2, 1, 3), "num_groups": 3},
        {"features": 12, "num_bands": 25},
        {"branches": ("frequency",), "features": 8},
    ],
)
def test_other_networks_make_the_round_trip_too(fields):
    model = M3SR(**fields)
    state_dict = params_to_release(zeros(model), model)
    rng = np.random.default_rng(0)
    drawn = {key: rng.standard_normal(value.shape) for key, value in state_dict.items()}
    back = params_to_release(params_from_release(drawn, model), model)
    for key, value in drawn.items():
        np.testing.assert_array_equal(back[key], np.zeros_like(value) if ".mlp." in key else value)


def test_all_faults_of_a_state_dict_are_named(state_dict, model):
    bad = dict(state_dict)
    del bad["conv_in.weight"]
    bad["body.0.attention.weight"] = np.zeros(3, np.float32)
    bad["conv_out.weight"] = np.zeros((31, 31, 1, 1), np.float32)
    with pytest.raises(InputError) as raised:
        params_from_release(bad, model)
    message = str(raised.value)
    assert "1 missing: conv_in.weight;" in message
    assert "1 unknown: body.0.attention.weight;" in message
    assert "conv_out.weight (31, 31, 1, 1) instead of (31, 31, 3, 3)" in message
    assert "\n" not in message


def test_weights_of_another_network_are_refused(state_dict):
    with pytest.raises(InputError, match=r"of another shape: .*conv_in.bias .*expected those of M3SR .* num_groups 8"):
        params_from_release(state_dict, M3SR(num_groups=8))
    with pytest.raises(InputError, match=r"220 missing: .* and 212 more\); expected those of M3SR .* num_stages 2"):
        params_from_release(state_dict, M3SR(num_stages=2))


def test_integers_are_no_weights(state_dict, model):
    counts = {**state_dict, "conv_in.weight": np.ones((31, 3, 3, 3), np.int64)}
    with pytest.raises(InputError, match=r"not floats: conv_in\.weight"):
        params_from_release(counts, model)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e39])
def test_numbers_that_float32_cannot_hold_are_no_weights(state_dict, model, number):
    weights = {**state_dict, "conv_in.weight": np.full((31, 3, 3, 3), number)}
    with pytest.raises(InputError, match=r"NaN, infinity .*: conv_in\.weight"):
        params_from_release(weights, model)


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("mst_plus_plus", {"transformers": 1}, r"those of MST\+\+ with num_bands 31, features 31, transformers 3"),
        ("hscnn_plus", {"dense_blocks": 2}, r"those of HSCNN\+ with num_bands 31, dense_blocks 38"),
    ],
)
def test_a_baseline_of_another_size_is_told_which_one_was_expected(name, other, expected):
    model = create(name, **other)
    state_dict = params_to_release(zeros(model), model)
    with pytest.raises(InputError, match=f"missing: .*; expected {expected}$"):
        params_from_release(state_dict, build_model(infer_model(state_dict)))


def test_parameters_of_another_network_are_refused(params):
    with pytest.raises(InputError, match=r"the parameters do not fit .*200 missing: unet_1/"):
        params_to_release(params, M3SR(num_stages=2))


def test_networks_without_a_release_are_refused():
    with pytest.raises(InputError, match="Dense: found no release layout"):
        params_from_release({}, nn.Dense(3, param_dtype=jnp.float32))
