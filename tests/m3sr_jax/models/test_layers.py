"""Layers against plain formulas and JAX's own convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels.depthwise_conv_silu.xla import depthwise_conv3x3
from m3sr_kernels.group_norm_silu.reference import normed_over_groups
from m3sr_kernels.layer_norm.reference import normed_over_channels

from m3sr_jax.models.layers import (
    UpConv,
    conv_whole_vectors,
    linear_init,
    normal_fan,
    pixel_product,
    statistics_dtype,
    uniform_fan_in,
)

# Sums of at most a few hundred float32 terms of size 1.
TOLERANCE = 1e-5


def draw(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_depthwise_conv_equals_a_grouped_convolution(quick_jit):
    image, kernel = draw(0, (2, 5, 7, 6)), draw(1, (3, 3, 6))
    expected = jax.lax.conv_general_dilated(
        image,
        kernel[:, :, None],
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=6,
    )
    np.testing.assert_allclose(quick_jit(depthwise_conv3x3)(image, kernel), expected, atol=TOLERANCE)


def test_up_conv_does_not_flip_its_kernel():
    image = draw(0, (1, 3, 4, 5))
    kernel, bias = draw(1, (5, 2, 2, 6)), draw(2, (6,))
    got = UpConv(6).apply({"params": {"kernel": kernel, "bias": bias}}, image)
    assert got.shape == (1, 6, 8, 6)
    for k in range(2):
        for l in range(2):
            expected = image @ kernel[:, k, l] + bias[None, None, None]
            np.testing.assert_allclose(got[:, k::2, l::2], expected, atol=TOLERANCE)


def test_a_convolution_to_whole_vectors_is_that_convolution(quick_jit):
    image, kernel = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 6, 7, 3), (3, 3, 3, 5)])
    )
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    got, expected = (
        quick_jit(jax.value_and_grad(lambda *a, f=f: jnp.square(f(*a, **options)).sum(), argnums=(0, 1)))(image, kernel)
        for f in (conv_whole_vectors, jax.lax.conv_general_dilated)
    )
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)


def test_pixel_product_is_the_product_of_the_last_axis(quick_jit):
    image, matrix = draw(0, (2, 3, 4, 5)), draw(1, (5, 6))
    got, expected = (
        quick_jit(jax.value_and_grad(lambda *a, f=f: jnp.square(f(*a)).sum(), argnums=(0, 1)))(image, matrix)
        for f in (pixel_product, jnp.matmul)
    )
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-4)


def test_layer_norm_of_shifted_pixels(quick_jit):
    # A large mean would ruin a variance computed as E[x²] − E[x]².
    image = 100 + draw(0, (2, 3, 4, 31))
    wide = np.asarray(image, np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(
        quick_jit(normed_over_channels, static_argnums=1)(image, 1e-6), expected, atol=10 * TOLERANCE
    )


def test_group_norm_takes_whole_images_and_groups_of_neighbouring_channels(quick_jit):
    image = draw(0, (2, 4, 6, 12)) * jnp.arange(1.0, 13.0)[None, None, None]
    groups = np.asarray(image, np.float64).reshape(2, 4, 6, 3, 4)
    axes = (1, 2, 4)
    expected = (groups - groups.mean(axes, keepdims=True)) / np.sqrt(groups.var(axes, keepdims=True) + 1e-5)
    got = quick_jit(normed_over_groups, static_argnums=(1, 2))(image, 3, 1e-5)
    np.testing.assert_allclose(got, expected.reshape(image.shape), atol=TOLERANCE)


def test_initial_draws_have_the_stated_spread():
    uniform = uniform_fan_in(27)(jax.random.key(0), (3, 3, 3, 200))
    assert uniform.shape == (3, 3, 3, 200)
    assert float(jnp.abs(uniform).max()) <= 27**-0.5
    assert float(uniform.std()) == pytest.approx((27 * 3) ** -0.5, rel=0.05)
    assert float(normal_fan(8)(jax.random.key(0), (100, 100)).std()) == pytest.approx(0.5, rel=0.05)
    assert float(linear_init(jax.random.key(0), (100, 100)).std()) == pytest.approx(0.02, rel=0.05)


def test_statistics_are_never_narrower_than_float32():
    assert [jnp.dtype(statistics_dtype(dtype)).name for dtype in (jnp.bfloat16, jnp.float32, jnp.float64)] == [
        "float32",
        "float32",
        "float64",
    ]
