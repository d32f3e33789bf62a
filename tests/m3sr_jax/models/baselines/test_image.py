import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from m3sr_jax.models.baselines.image import dropped


class Dropping(nn.Module):
    rate: float
    channels: int = 1

    def __call__(self, x):
        return dropped(self, x, self.rate, self.channels)


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_whole_samples_are_dropped_and_their_mean_is_kept(rate):
    x = jnp.ones((4000, 1, 2, 2))
    kept = Dropping(rate).apply({}, x, rngs={"dropout": jax.random.key(3)})
    assert (kept == kept[:, :1, :1, :1]).all()
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - rate)], rtol=1e-6)
    assert abs(kept.mean() - 1) < 4 * np.sqrt(rate / (1 - rate) / 4000)
    np.testing.assert_array_equal(Dropping(rate).apply({}, x), x)


def test_channels_are_dropped_each_for_itself():
    kept = Dropping(0.2, channels=1000).apply({}, jnp.ones((2, 3, 3, 1000)), rngs={"dropout": jax.random.key(3)})
    assert (kept == kept[:, :1, :1]).all()
    assert (kept[0, 0, 0] != kept[1, 0, 0]).any()
    assert abs((kept == 0).mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 2000)
