"""Padding of images; the networks' own tests have the images that they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.models.image import check_image, pad_edges, reflect_to_multiple


@pytest.mark.parametrize(("height", "width"), [(5, 8), (7, 9), (16, 24)])
def test_padding_reflects_below_and_to_the_right(height, width):
    image = np.arange(2.0 * height * width).reshape(2, height, width, 1)
    padded = np.asarray(reflect_to_multiple(jnp.asarray(image), 8))
    rows, columns = -height % 8, -width % 8
    assert padded.shape == (2, height + rows, width + columns, 1)
    np.testing.assert_array_equal(padded[:, :height, :width], image)
    np.testing.assert_array_equal(padded[:, height:, :width], image[:, ::-1][:, 1 : rows + 1])
    np.testing.assert_array_equal(padded[:, :height, width:], image[:, :, ::-1][:, :, 1 : columns + 1])


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_padding_repeats_the_edges(margin):
    image = np.arange(24.0).reshape(2, 3, 4, 1)
    rows, columns = (np.clip(np.arange(-margin, size + margin), 0, size - 1) for size in (3, 4))
    np.testing.assert_array_equal(pad_edges(jnp.asarray(image), margin), image[:, rows][:, :, columns])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_usable_image_comes_back_in_the_network_s_type(dtype):
    image = np.linspace(0, 1, 5 * 6 * 3, dtype=np.float32).reshape(1, 5, 6, 3)
    checked = check_image("Net", image, 5, dtype)
    assert checked.dtype == dtype
    np.testing.assert_array_equal(checked, image.astype(dtype))


@pytest.mark.parametrize("size", [(4, 9), (9, 4)])
def test_the_smallest_side_is_named(size):
    with pytest.raises(ValueError, match=f"Net takes images of at least 5×5 pixels, got H×W = {size[0]}×{size[1]}"):
        check_image("Net", np.zeros((1, *size, 3), np.float32), 5, jnp.float32)
