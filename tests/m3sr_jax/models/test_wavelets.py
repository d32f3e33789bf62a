"""Wavelet transforms against PyWavelets."""

import jax
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from m3sr_jax.models.wavelets import dwt2, haar_dwt2, haar_idwt2, idwt2

WAVELETS = ["haar", "jaxwt:haar", "db2", "sym4", "bior2.2"]
# float32 sums of up to 64 products of size 1.
TOLERANCE = 5e-6


def image(height, width, channels=3):
    return jax.random.normal(jax.random.key(0), (2, height, width, channels))


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_bands_are_those_of_pywavelets(wavelet):
    x = image(12, 16)
    low, details = pywt.dwt2(np.asarray(x), wavelet.removeprefix("jaxwt:"), mode="zero", axes=(1, 2))
    got = jax.jit(dwt2, static_argnums=1)(x, wavelet)
    np.testing.assert_allclose(got, np.concatenate([low, *details], axis=-1), atol=TOLERANCE)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_inverse_gives_the_image_back(wavelet):
    x = image(12, 16)
    got = jax.jit(lambda x: idwt2(dwt2(x, wavelet), (12, 16), wavelet))(x)
    np.testing.assert_allclose(got, x, atol=TOLERANCE)


@settings(max_examples=5, deadline=None)
@given(height=st.integers(1, 6), width=st.integers(1, 6), channels=st.integers(1, 4))
def test_haar_keeps_the_energy_of_any_even_image(height, width, channels):
    x = image(2 * height, 2 * width, channels)
    bands = haar_dwt2(x)
    np.testing.assert_allclose(np.square(bands).sum(), np.square(x).sum(), rtol=1e-5)
    np.testing.assert_allclose(haar_idwt2(bands), x, atol=TOLERANCE)


def test_gradient_of_the_butterfly_is_that_of_the_library():
    x, cotangent = image(8, 8), image(4, 4, 12)
    gradients = [jax.grad(lambda x, w=w: (dwt2(x, w) * cotangent).sum())(x) for w in ("haar", "jaxwt:haar")]
    np.testing.assert_allclose(*gradients, atol=TOLERANCE)


def test_unknown_wavelet_is_refused():
    with pytest.raises(ValueError, match="wavelet daubechies is unknown: expected haar, another"):
        dwt2(image(8, 8), "daubechies")
