"""Time and memory of a forward pass."""

from flax import linen as nn

from m3sr_jax.cost.measure import measure_forward


def test_time_and_memory_of_a_small_network():
    class Small(nn.Module):
        @nn.compact
        def __call__(self, rgb):
            return nn.Conv(31, (3, 3))(nn.gelu(nn.Conv(64, (3, 3))(rgb)))

    speed = measure_forward(Small(), 32, 32, repeats=1)
    assert speed.seconds > 0
    assert speed.activation_bytes >= 32 * 32 * 64 * 4
    assert "s per image, activation memory" in speed.describe()
