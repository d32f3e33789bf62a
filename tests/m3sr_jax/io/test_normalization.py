import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.io.normalization import RGB_NORMALIZATIONS, normalise_rgb, rgb_range


@pytest.fixture
def rgb():
    return np.random.default_rng(0).uniform(0.2, 0.7, (6, 5, 3)).astype(np.float32)


def test_unit_leaves_the_values(rgb):
    np.testing.assert_array_equal(normalise_rgb(rgb, "unit"), rgb)


def test_minmax_uses_the_whole_range(rgb):
    stretched = normalise_rgb(rgb, "minmax")
    assert stretched.dtype == np.float32
    assert (stretched.min(), stretched.max()) == (0, 1)
    np.testing.assert_allclose(stretched * (rgb.max() - rgb.min()) + rgb.min(), rgb, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_value_becomes_zeros(value):
    np.testing.assert_array_equal(normalise_rgb(np.full((2, 2, 3), value, np.float32), "minmax"), 0)


def test_a_traced_batch_is_normalised_image_by_image(rgb):
    batch = np.stack([rgb, rgb / 2 + np.float32(0.1), np.full_like(rgb, 0.5)])
    found = jax.jit(lambda images: normalise_rgb(images, "minmax"))(jnp.asarray(batch))
    np.testing.assert_allclose(found, [normalise_rgb(image, "minmax") for image in batch], atol=1e-7)


def test_other_names_are_refused(rgb):
    with pytest.raises(ValueError, match="mean"):
        normalise_rgb(rgb, "mean")


@pytest.mark.parametrize("normalization", RGB_NORMALIZATIONS)
def test_ranges_of_codes_agree_with_values(normalization):
    codes = np.random.default_rng(0).integers(30, 200, (4, 5, 3)).astype(np.uint8)
    low, high = rgb_range(codes, normalization)
    values = normalise_rgb(codes / np.float32(255), normalization)
    np.testing.assert_allclose((codes.astype(np.float32) - low) / (high - low), values, atol=1e-6)


def test_the_range_of_one_code_is_never_empty():
    assert rgb_range(np.full((2, 2, 3), 7, np.uint8), "minmax") == (7, 8)
    assert rgb_range(np.full((2, 2, 3), 7, np.uint8), "unit") == (0, 255)
