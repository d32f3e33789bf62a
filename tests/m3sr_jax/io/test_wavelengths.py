import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS, SAME_BAND_NM, check_wavelengths, same_bands, span


def test_the_usual_bands():
    np.testing.assert_array_equal(BANDS, np.linspace(400, 700, 31))


@pytest.mark.parametrize("wavelengths", [BANDS, BANDS[:1], np.array([100.1, 19_999.0])])
def test_plausible_wavelengths_pass(wavelengths):
    check_wavelengths(wavelengths, "cube.mat")


@pytest.mark.parametrize(
    ("wavelengths", "found"),
    [
        ([0.4, 0.5, 0.7], r"0\.4-0\.7 nm"),  # micrometres
        ([700.0, 600.0, 400.0], "700-400 nm"),
        ([400.0, 500.0, 500.0], "400-500 nm"),
        ([400.0, np.nan, 700.0], "400-700 nm"),
        ([np.nan], "nan-nan nm"),
        ([400.0, np.inf], "400-inf nm"),
        ([100.0], "100-100 nm"),
        ([400.0, 20_000.0], "400-20000 nm"),
    ],
)
def test_implausible_wavelengths_are_refused(wavelengths, found):
    expected = rf"^cube\.mat: found bands of {found}; expected wavelengths in nm, rising, between 100 and 20000$"
    with pytest.raises(InputError, match=expected):
        check_wavelengths(np.array(wavelengths), "cube.mat")


def test_bands_are_the_same_within_the_tolerance():
    assert same_bands(BANDS, BANDS + SAME_BAND_NM)
    assert not same_bands(BANDS, BANDS + 1.01 * SAME_BAND_NM)
    assert not same_bands(BANDS, BANDS[:-1])
    assert not same_bands(BANDS, np.where(BANDS == 500, np.nan, BANDS))


def test_a_span_is_short():
    assert span(np.array([397.25, 550.0, 1003.5])) == "397.25-1003.5 nm"
