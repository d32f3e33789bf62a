import jax
import numpy as np

from m3sr_jax.models.baselines.hrnet import shuffle, unshuffle


def test_pixels_go_to_channels_and_back():
    """As defined: out[i, j, c·f² + y·f + x] = in[f·i+y, f·j+x, c]."""
    image = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    squares = unshuffle(image, 4)
    assert squares.shape == (2, 2, 3, 48)
    assert squares[1, 1, 2, 2 * 16 + 3 * 4 + 1] == image[1, 4 * 1 + 3, 4 * 2 + 1, 2]
    np.testing.assert_array_equal(shuffle(squares, 4), image)
