"""The least-squares baseline: exact recovery, streaming, rank deficiency, and its scores on real scenes."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from m3sr_jax.data.scenes import Scene
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.least_squares import LeastSquares
from m3sr_jax.evaluation.protocols import PROTOCOLS, evaluate_pair


def scene(name, rgb, cube):
    return Scene(name, rgb.astype(np.float32), cube.astype(np.float32), np.linspace(400, 700, cube.shape[-1]))


def monomials(rgb, degree):
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    columns = [np.ones_like(r), r, g, b]
    if degree == 2:
        columns += [r * r, g * g, b * b, r * g, r * b, g * b]
    return np.stack(columns, -1)


def polynomial_scenes(degree, count=3):
    rng = np.random.default_rng(degree)
    weights = rng.standard_normal((4 if degree == 1 else 10, 31))
    photos = [rng.random((20, 23 + i, 3), np.float32) for i in range(count)]
    return [scene(str(i), rgb, monomials(rgb, degree) @ weights) for i, rgb in enumerate(photos)]


@pytest.mark.parametrize("degree", [1, 2])
def test_a_polynomial_is_recovered_from_scenes_read_once(degree):
    scenes = polynomial_scenes(degree)
    fitted = LeastSquares.fit(iter(scenes[:2]), degree)
    predicted = fitted.predict(scenes[2].rgb)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, scenes[2].cube, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 2])
def test_the_fit_is_the_least_squares_solution(degree):
    rng = np.random.default_rng(0)
    scenes = [
        scene(str(i), rng.random((300, 300, 3), np.float32), rng.random((300, 300, 5), np.float32)) for i in (0, 1)
    ]
    features = np.concatenate([monomials(each.rgb, degree).reshape(90000, -1) for each in scenes])
    spectra = np.concatenate([each.cube.reshape(90000, 5) for each in scenes]).astype(np.float64)
    expected = np.linalg.lstsq(features, spectra, rcond=None)[0]
    np.testing.assert_allclose(LeastSquares.fit(scenes, degree).coefficients, expected, atol=1e-6)


@pytest.mark.parametrize("degree", [1, 2])
def test_grey_training_images_give_a_finite_fit(degree):
    grey = np.repeat(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20, 1), 3, axis=2)
    cube = np.repeat(grey[..., :1], 31, axis=2)
    fitted = LeastSquares.fit([scene("grey", grey, cube)], degree)
    assert np.abs(fitted.coefficients).max() < 2
    np.testing.assert_allclose(fitted.predict(grey), cube, atol=1e-5)


def test_predict_takes_any_leading_shape():
    fitted = LeastSquares.fit(polynomial_scenes(2), 2)
    rgb = np.random.default_rng(0).random((2, 300, 301, 3), np.float32)
    predicted = fitted.predict(rgb)
    assert predicted.shape == (2, 300, 301, 31)
    np.testing.assert_array_equal(predicted[1, 7, 11], fitted.predict(rgb[1, 7, 11]))


def test_errors_say_why_nothing_can_be_fitted():
    whole = polynomial_scenes(1, 1)[0]
    with pytest.raises(InputError, match="no scenes"):
        LeastSquares.fit([])
    with pytest.raises(InputError, match="NaN"):
        LeastSquares.fit([scene("broken", whole.rgb, np.full_like(whole.cube, np.nan))])
    with pytest.raises(ValueError, match="degree"):
        LeastSquares.fit([whole], 3)


TEST_SCENES = (
    "balloons",
    "egyptian_statue",
    "fake_and_real_lemons",
    "fake_and_real_peppers",
    "fake_and_real_tomatoes",
    "real_and_fake_apples",
)


@pytest.fixture(scope="module")
def cave():
    if "M3SR_DATA_DIR" not in os.environ:
        pytest.skip("set M3SR_DATA_DIR to the folder that holds cave26_128.h5 and camera/")
    folder = Path(os.environ["M3SR_DATA_DIR"])
    filters = np.load(folder / "camera" / "cie_1964_w_gain.npz")["filters"]
    with h5py.File(folder / "cave26_128.h5") as file:
        cubes = {name.removesuffix("_ms"): np.moveaxis(file["cube"][name][:], 0, -1) / 65535 for name in file["cube"]}
    photos = {name: np.round(np.clip(cube @ filters / 256, 0, 1) * 255) / 255 for name, cube in cubes.items()}
    return [scene(name, photos[name], cube) for name, cube in cubes.items()]


@pytest.mark.parametrize(
    ("degree", "psnr", "rmse", "sam"), [(1, 35.05, 0.0181, 16.8), (2, 35.73, 0.0168, 14.7)], ids=["linear", "quadratic"]
)
def test_scores_on_six_cave_scenes(cave, degree, psnr, rmse, sam):
    """The linear scores are the field's for this split and camera (35.0 dB, .0181, 16.8°)."""
    held_out = [each for each in cave if each.name in TEST_SCENES]
    assert (len(held_out), len(cave)) == (6, 26)
    fitted = LeastSquares.fit((each for each in cave if each.name not in TEST_SCENES), degree)
    scores = [evaluate_pair(PROTOCOLS["cave"], fitted.predict(each.rgb), each.cube) for each in held_out]
    means = {name: np.mean([score[name] for score in scores]) for name in scores[0]}
    assert abs(means["psnr"] - psnr) < 0.01
    assert abs(means["rmse"] - rmse) < 5e-5
    assert abs(means["sam"] - sam) < 0.05
