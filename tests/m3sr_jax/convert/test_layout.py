"""The map's terms: how axes move, and which modules a U-Net lists."""

import numpy as np
import pytest

from m3sr_jax.convert import layout
from m3sr_jax.convert.layout import Tensor, norm, unet_modules, weight

# Name → the release's shape and ours.
SHAPES = {
    "CONV": ((7, 5, 3, 2), (3, 2, 5, 7)),
    "DEPTHWISE": ((7, 1, 3, 2), (3, 2, 7)),
    "DEPTHWISE_1D": ((7, 1, 4), (4, 7)),
    "POINTWISE": ((7, 5, 1, 1), (5, 7)),
    "UP_CONV": ((5, 7, 2, 3), (5, 2, 3, 7)),
    "LINEAR": ((7, 5), (5, 7)),
    "VECTOR": ((7,), (7,)),
    "MATRIX": ((7, 5), (7, 5)),
    "CUBE": ((7, 5, 3), (7, 5, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_axes_go_there_and_back(name):
    axes, (release, ours) = getattr(layout, name), SHAPES[name]
    array = np.random.default_rng(0).standard_normal(release)
    assert axes.from_release(array).shape == ours
    assert axes.release_shape(ours) == release
    np.testing.assert_array_equal(axes.to_release(axes.from_release(array)), array)


def test_a_convolution_s_axes_are_moved_by_meaning():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # out, in, kh, kw
    assert layout.CONV.from_release(array)[1, 2, 0, 1] == array[1, 0, 1, 2]
    assert layout.UP_CONV.from_release(array)[1, 2, 3, 0] == array[1, 0, 2, 3]


def test_what_a_layer_and_a_norm_are_called():
    assert list(weight("a.b", ("c",), layout.LINEAR, bias=True)) == [
        Tensor("a.b.weight", ("c", "kernel"), layout.LINEAR),
        Tensor("a.b.bias", ("c", "bias")),
    ]
    assert [tensor.path for tensor in norm("a", ("c",))] == [("c", "scale"), ("c", "bias")]


def test_a_u_net_lists_every_level_once_in_the_release_s_order():
    groups = unet_modules(2, lambda module, path, level: iter([(module, path, f"level {level}")]))
    modules = list(groups)
    assert len({module for module, _, _ in modules}) == len({path for _, path, _ in modules}) == len(modules)
    assert modules[0] == ("conv_in", ("conv_in",), "conv")
    assert modules[2] == ("body.0.encoder_layers.0.0", ("unet_0", "encoder_0"), "level 0")
    assert [kind for module, _, kind in modules if module.startswith("body.1.") and "level" in kind] == [
        f"level {level}" for level in (0, 1, 2, 1, 0)
    ]
    assert ("body.1.decoder_layers.0.1", ("unet_1", "merge_1"), "pointwise") in modules
