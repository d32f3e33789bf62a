"""The U-Net on its own: what runs at which level, on which shape, and its residual."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from m3sr_jax.models.unet import UNet


class Recorder(nn.Module):
    """Changes nothing and reports its name and the shapes it sees."""

    report: Callable

    def __call__(self, x):
        self.report(self.name, x.shape)
        return x


def test_levels_have_their_width_and_size_and_a_silent_unet_is_the_identity():
    seen, image = {}, jax.random.normal(jax.random.key(0), (1, 8, 12, 5))
    unet = UNet(features=6, make_group=lambda level, name: Recorder(seen.__setitem__, name=name))
    params = unet.init(jax.random.key(1), image)["params"]
    full, half, quarter = (1, 8, 12, 6), (1, 4, 6, 12), (1, 2, 3, 24)
    assert list(seen.items()) == [
        ("encoder_0", full),
        ("encoder_1", half),
        ("bottleneck", quarter),
        ("decoder_1", half),
        ("decoder_0", full),
    ]
    assert params["down_0"]["kernel"].shape == (4, 4, 6, 12)
    assert params["merge_1"]["kernel"].shape == (24, 12)
    assert {name for name in params if "bias" in params[name]} == {"up_0", "up_1"}
    assert jnp.abs(unet.apply({"params": params}, image) - image).max() > 0
    params["mapping"]["kernel"] *= 0
    np.testing.assert_array_equal(unet.apply({"params": params}, image), image)
