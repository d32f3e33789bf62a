import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import (
    BANDS,
    SAME_BAND_NM,
    check_wavelengths,
    named_centres,
    nanometres,
    parse_wavelengths,
    same_bands,
    span,
)


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400:700:10", BANDS),
        ("700:400:-10", BANDS[::-1]),
        ("400:401:0.25", [400, 400.25, 400.5, 400.75, 401]),
        ("0.4:0.7:0.01", BANDS),
        ("550:550:10", [550]),
        ("400,500, 650.5", [400, 500, 650.5]),
        ("550", [550]),
    ],
)
def test_wavelengths_as_typed(text, expected):
    centres, note = parse_wavelengths(text)
    np.testing.assert_allclose(centres, expected)
    assert ("micrometres" in note) == text.startswith("0.")


@pytest.mark.parametrize(
    "content",
    [
        "400\n500\n650\n",
        "\ufeff# mine\nnm\n400\n500\n650",
        "400, 500, 650",
        "wavelength,fwhm\n400,5\n500,5\n650,6\n",
        "400;5\r\n500;5\r\n650;6\r\n",
        "0.4\n0.5\n0.65\n",
    ],
)
def test_wavelengths_in_a_file(tmp_path, content):
    (tmp_path / "nm.txt").write_text(content, encoding="utf-8")
    np.testing.assert_allclose(parse_wavelengths(str(tmp_path / "nm.txt"))[0], [400, 500, 650])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("400:700", "expected START:STOP:STEP, such as 400:700:10"),
        ("400:700:0", "expected START:STOP:STEP"),
        ("700:400:10", "expected START:STOP:STEP"),
        ("400:705:10", "steps of 10 from 400 do not end at 705"),
        ("400:700:1e-9", "do not end at 700"),
        ("a:b:c", "expected START:STOP:STEP in nm, such as 400:700:10, or a file of numbers"),
        ("400:nan:10", "expected START:STOP:STEP in nm"),
        ("nowhere.txt", "no such file"),
        ("10:50:10", "found bands of 10000-50000 nm"),
        ("400,400", "found bands of 400-400 nm; expected wavelengths in nm, rising"),
    ],
)
def test_unusable_wavelengths_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_wavelengths(text)


def test_the_declared_unit_wins_over_the_size():
    np.testing.assert_allclose(nanometres(np.array([4000.0, 7000.0]), "Angstroms", "x")[0], [400, 700])
    np.testing.assert_allclose(nanometres(np.array([0.4, 0.7]), "nm", "x")[0], [0.4, 0.7])  # refused afterwards


def test_names_need_a_unit():
    np.testing.assert_allclose(named_centres(["a 450 nm", "b 0.55 um"])[0], [450, 550])
    assert named_centres(["Band 450", "Band 550"]) is None
    assert named_centres(["450 nm", "blue"]) is None
    assert named_centres([]) is None
