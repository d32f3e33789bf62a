import numpy as np
import pytest

import m3sr_jax
from m3sr_jax.errors import InputError
from m3sr_jax.inference.finish import Finish, read_light
from m3sr_jax.io.photos.photo import Photo
from m3sr_jax.io.wavelengths import BANDS

EXACT = 0.01  # of a code: rounding in float32


@pytest.fixture(scope="module")
def model():
    return m3sr_jax.load(m3sr_jax.REGRESSION)


@pytest.fixture(scope="module")
def photo():
    codes = np.random.default_rng(0).integers(0, 250, (24, 16, 3)).astype(np.uint8)
    return Photo(codes, "srgb", "PNG", 8, None, ())


def test_exact_colours_give_the_photo_back_row_by_row(model, photo):
    cube = model.predict(photo.codes)
    plain = Finish(model.card, photo, exact_colour=False, light=None)
    np.testing.assert_array_equal(plain(cube), cube)
    assert plain.deviation > 1
    exact = Finish(model.card, photo, exact_colour=True, light=None)
    parts = [exact(cube[:9]), exact(cube[9:])]
    assert exact.deviation < EXACT
    whole = Finish(model.card, photo, exact_colour=True, light=None)(cube)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.abs(whole - cube).max() > 0.01


def test_a_light_multiplies_after_the_check(model, photo):
    cube, light = model.predict(photo.codes), read_light("A", model.wavelengths)
    plain, lit = (Finish(model.card, photo, exact_colour=False, light=choice) for choice in (None, light))
    np.testing.assert_allclose(lit(cube), plain(cube) * light, rtol=1e-6)
    assert lit.deviation == plain.deviation
    assert light.max() == 1
    assert (np.diff(light) > 0).all()  # A is a black body of 2856 K


def test_a_photo_without_unclipped_pixels_has_no_deviation(model):
    white = Photo(np.full((8, 8, 3), 255, np.uint8), "srgb", "PNG", 8, None, ())
    finish = Finish(model.card, white, exact_colour=False, light=None)
    finish(model.predict(white.codes))
    assert finish.deviation is None
    assert "every pixel" in finish.line()


def test_lights_from_files(tmp_path):
    path = tmp_path / "lamp.csv"
    path.write_text("# nm,power\n380,1\n800,3\n")
    light = read_light(str(path), BANDS)
    for text in ("nm;power\n380;1\n800;3\n", "# a lamp\n380\t1\n800\t3\n"):
        (tmp_path / "other.csv").write_text(text)
        np.testing.assert_array_equal(read_light(str(tmp_path / "other.csv"), BANDS), light)
    assert light[-1] == 1
    assert light[0] == pytest.approx((1 + 2 * 20 / 420) / (1 + 2 * 320 / 420))
    for text, told in (
        ("500,1\n600,1\n", "expected the cube's 400-700 nm"),
        ("400,1\n", "covers"),
        ("400,-1\n700,1\n", "powers of at least 0"),
        ("400,1,1\n700,1,1\n", "two columns"),
        ("300,1\n399,0\n800,0\n", "no power"),
        ("words\n", "two columns"),
        ("400,1\n700,words\n", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            read_light(str(path), BANDS)
    with pytest.raises(InputError, match="no such light"):
        read_light("D66", BANDS)


def test_half_widths_follow_the_rows_the_light_and_exact_colours(model, photo):
    cube, light = model.predict(photo.codes), read_light("A", model.wavelengths)
    assert model.uncertainty is not None
    for exact, lamp in ((False, None), (True, None), (True, light)):
        finish = Finish(model.card, photo, exact_colour=exact, light=lamp, interval=model.uncertainty)
        parts = []
        for rows in (cube[:9], cube[9:]):
            finish(rows)
            parts.append(finish.half_widths())
        expected = model.interval(photo.codes, exact_colour=exact) * (1 if lamp is None else lamp)
        np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5)
        assert f"90% interval: ±{expected.mean():.3f} on average" in finish.line()
    assert Finish(model.card, photo, exact_colour=False, light=None).half_widths() is None
