"""The frequency branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.models.frequency import FrequencyBranch


@pytest.fixture(scope="module")
def image():
    return jax.random.normal(jax.random.key(0), (1, 8, 12, 4))


@pytest.fixture(scope="module")
def params(quick_jit, image):
    return quick_jit(FrequencyBranch(implementation="reference").init)(jax.random.key(1), image)["params"]


def test_without_its_scan_the_branch_is_the_identity(quick_jit, image, params):
    silent = jax.tree.map_with_path(lambda path, leaf: leaf if path[-2].key != "out_proj" else 0 * leaf, params)
    output = quick_jit(FrequencyBranch(implementation="reference").apply)({"params": silent}, image)
    np.testing.assert_allclose(output, image, atol=1e-6)


def test_haar_through_the_library_gives_the_same_branch(quick_jit, image, params):
    outputs = [
        quick_jit(FrequencyBranch(wavelet=wavelet, implementation="reference").apply)({"params": params}, image)
        for wavelet in ("haar", "jaxwt:haar")
    ]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    assert np.abs(outputs[0] - image).max() > 1e-3


def test_longer_wavelets_keep_the_size(image):
    branch = FrequencyBranch(wavelet="db3", implementation="reference")
    output = jax.eval_shape(lambda x: branch.init_with_output(jax.random.key(0), x)[0], image)
    assert output.shape == image.shape
    assert output.dtype == jnp.float32
