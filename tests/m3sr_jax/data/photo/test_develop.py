import dataclasses

import numpy as np
import pytest

from m3sr_jax.data.photo import develop
from m3sr_jax.data.photo.cameras import MEASURED, draw_camera, measured_camera
from m3sr_jax.data.photo.develop import colour_matrix, draw_settings, ideal_settings, take_photo, target_scale, toned
from m3sr_jax.data.photo.lights import draw_light, lamp
from m3sr_jax.data.spectra import reflectances
from m3sr_jax.io.photos.spaces import srgb_decode
from m3sr_jax.viewer.colorimetry import render

HALF_CODE = 0.5001 / 255  # an ideal photo differs from its scene by rounding alone


@pytest.fixture(scope="module")
def scene():
    spectra = reflectances()[:64].reshape(8, 8, 31)
    return spectra.astype(np.float32)


def test_an_ideal_photo_of_reflectances_has_their_colours(scene):
    photo = take_photo(scene, ideal_settings(), np.random.default_rng(0))
    shown = render(scene, np.arange(400.0, 701.0, 10.0), exposure=1.0).rgba[..., :3]
    seen = (scene @ develop.display_matrix()).min(-1) > 0.02  # outside sRGB the photo clips
    np.testing.assert_allclose(photo[seen].astype(int), shown[seen].astype(int), atol=2)  # D65 through a band-pass
    assert target_scale(scene, photo) == pytest.approx(1, abs=0.01)


def test_white_is_white_for_every_camera_and_light():
    rng = np.random.default_rng(1)
    white = np.ones((8, 8, 31), np.float32)
    for _ in range(20):
        settings = dataclasses.replace(draw_settings(rng), white_balance=(1.0, 1.0, 1.0))
        clean = dataclasses.replace(
            settings, exposure=0.5, noise=0.0, tone=0.0, jpeg_quality=0
        )  # grey has no colour to saturate
        photo = take_photo(white, clean, rng)
        np.testing.assert_allclose(srgb_decode(photo / 255), 0.5, atol=2 * HALF_CODE)


def test_the_same_seed_gives_the_same_photo(scene):
    first, second = (take_photo(scene, draw_settings(rng), rng) for rng in map(np.random.default_rng, (3, 3)))
    np.testing.assert_array_equal(first, second)


def test_exposure_scales_the_target(scene):
    ideal = ideal_settings()
    half = take_photo(scene, dataclasses.replace(ideal, exposure=0.5), np.random.default_rng(0))
    assert target_scale(scene, half) == pytest.approx(0.5, abs=0.01)
    white = np.ones((8, 8, 31), np.float32)
    bright = take_photo(white, dataclasses.replace(ideal, exposure=4.0), np.random.default_rng(0))
    assert (bright == 255).all()
    assert target_scale(white, bright) == 1.0  # nothing is left to compare


def test_each_error_changes_the_photo(scene):
    ideal = ideal_settings()
    clean = take_photo(scene, ideal, np.random.default_rng(0))
    errors = {"white_balance": (1.2, 1.0, 0.8), "tone": 0.5, "saturation": 1.2, "noise": 0.02, "jpeg_quality": 60}
    for name, value in errors.items():
        changed = take_photo(scene, dataclasses.replace(ideal, **{name: value}), np.random.default_rng(0))
        assert (changed != clean).mean() > 0.2, name


def test_a_fifth_of_the_photos_is_clean():
    rng = np.random.default_rng(0)
    drawn = [draw_settings(rng) for _ in range(300)]
    clean = [s for s in drawn if s.noise == 0]
    assert 0.12 < len(clean) / len(drawn) < 0.28
    assert all((s.tone, s.saturation, s.jpeg_quality, s.white_balance) == (0, 1, 0, (1, 1, 1)) for s in clean)
    stops = np.log2([s.exposure for s in drawn])
    assert stops.min() > -1.5
    assert stops.max() < 0.7
    red = np.log([s.white_balance[0] for s in drawn if s.noise])
    assert np.std(red) == pytest.approx(0.08, rel=0.2)


def test_a_tone_curve_rises_and_keeps_black_grey_and_white():
    values = np.linspace(0, 1, 101)[:, None, None].repeat(3, 2)
    curve = toned(values, 0.8)
    assert (np.diff(curve[:, 0, 0]) > 0).all()
    np.testing.assert_allclose(curve[[0, 50, 100], 0, 0], [0, 0.5, 1], atol=1e-12)


def test_a_colour_matrix_keeps_white_and_is_the_identity_for_an_observer_in_srgb():
    matrix = colour_matrix(measured_camera("Nikon 5100"), lamp("A"))
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    display = develop.display_matrix()
    np.testing.assert_allclose(colour_matrix(display, np.ones(31)), np.eye(3), atol=1e-9)


def test_lights_and_cameras_are_spectra():
    rng = np.random.default_rng(0)
    names = set()
    for _ in range(200):
        (light_name, light), (camera_name, camera) = draw_light(rng), draw_camera(rng)
        assert light.min() > 0
        assert light.mean() == pytest.approx(1)
        assert camera.shape == (31, 3)
        assert camera.min() >= 0
        assert (camera.sum(axis=0) > 0).all()
        names |= {light_name[:2], camera_name}
    assert {*MEASURED, "random", "LE", "FL"} <= names
