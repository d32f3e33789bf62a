"""The model in the package: that it loads, what it promises, and its scores on measured scenes."""

import dataclasses
import json
import os
import re
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import m3sr_jax
from m3sr_jax.checkpoint import WEIGHTS_FILE, write_weights
from m3sr_jax.config import ModelConfig
from m3sr_jax.data.colorimetry import srgb_matrix
from m3sr_jax.data.photo.develop import ideal_settings, take_photo
from m3sr_jax.data.spectra import reflectances
from m3sr_jax.errors import InputError
from m3sr_jax.inference.predictor import PRETRAINED, REGRESSION
from m3sr_jax.io.photos.spaces import srgb_decode, srgb_encode
from m3sr_jax.model_card import MODEL_FILE, ModelCard
from m3sr_jax.models import build_model, init_params
from m3sr_jax.uncertainty import CUBE

MAX_BYTES = 8 * 2**20
# What benchmarks/bench_photo.py measured, less a little for other versions of libraries.
OWN, OWN_OF_REGRESSION = (32.4, 9.0), (31.3, 9.9)
# Of bright pixels: 96.4 % and 96.0 %. These photos have no errors of cameras, for which the intervals allow.
COVERAGE = (0.85, 0.97)


@pytest.fixture(scope="module")
def network():
    return m3sr_jax.load()


@pytest.fixture(scope="module")
def regression():
    return m3sr_jax.load(m3sr_jax.REGRESSION)


@pytest.fixture(scope="module", params=["network", "regression"])
def either(request):
    return request.getfixturevalue(request.param)


def test_the_cards_say_what_the_models_take_and_give(network, regression):
    for card in (network.card, regression.card):
        assert (card.encoding, card.quantity, card.scale) == ("linear", "reflectance", "white of the photo")
        assert card.uncertainty is not None
    assert (network.card.model.base, regression.card.model.base) == ("root3", "ratio3_weighted")
    assert (network.card.model.name, regression.card.model.name) == ("m3sr", "regression")
    assert "fit_default_model" in regression.card.provenance["command"]
    assert network.card.provenance["dataset"] == "photo"  # no photograph and no measured scene
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) < MAX_BYTES
    assert "BSD-3" in (PRETRAINED / "MODEL_CARD.md").read_text()


def test_a_model_is_shown_on_one_line(network):
    shown = r"Predictor\(m3sr, [\d,]+ parameters, 31 bands of 400-700 nm, encoding linear, quantity reflectance\)"
    assert re.fullmatch(shown, repr(network))


def test_grey_stays_grey_black_stays_black_and_exposure_scales(either):
    rgb = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32, 1).repeat(3, 2)
    cube = either.predict(rgb, encoding="linear")
    shown = cube @ srgb_matrix(either.wavelengths)
    assert np.abs(shown - rgb).mean() < 0.02
    spectrum = cube[16:].mean((0, 1))
    assert spectrum[4:].std() < 0.07 * spectrum.mean()  # whites and greys are flat from 440 nm on
    assert spectrum[0] < 0.8 * spectrum.mean()  # titanium white is dark at 400 nm
    np.testing.assert_allclose(either.predict(rgb / 2, encoding="linear"), cube / 2, atol=1e-4)
    np.testing.assert_allclose(either.predict(np.zeros_like(rgb)), 0, atol=2e-3)


def test_photos_in_srgb_and_linear_photos_give_the_same(either):
    codes = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    cube = either.predict(codes)
    light = srgb_decode(codes / 255).astype(np.float32)
    np.testing.assert_allclose(either.predict(light, encoding="linear"), cube, atol=1e-5)
    assert np.abs(either.predict(light) - cube).max() > 0.05  # taken as sRGB, it is another photo


def patchwork():
    """Returns 320 measured reflectances in patches of 8×8 pixels, and their photo."""
    scene = reflectances()[:320].reshape(16, 20, 31).astype(np.float32).repeat(8, 0).repeat(8, 1)
    return scene, take_photo(scene, ideal_settings(), np.random.default_rng(0))


def test_measured_reflectances_come_back_from_an_ideal_photo(either):
    scene, codes = patchwork()
    cube = either.predict(codes)
    assert np.sqrt(np.mean((cube - scene) ** 2)) < 0.065
    shown = srgb_encode(np.clip(cube @ srgb_matrix(either.wavelengths), 0, 1))
    assert np.abs(shown - srgb_encode(np.clip(scene @ srgb_matrix(either.wavelengths), 0, 1))).mean() < 0.05


def test_weights_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / MODEL_FILE).write_text((REGRESSION / MODEL_FILE).read_text())
    save_file({"regression": np.zeros((3, 31), np.float32)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(InputError, match=r"regression \(3, 31\) instead of \(10, 31\)"):
        m3sr_jax.load(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        m3sr_jax.load(tmp_path)


def test_intervals_hold_nine_tenths_of_measured_reflectances(either):
    scene, codes = patchwork()
    for exact_colour in (False, True):
        widths = either.interval(codes, exact_colour=exact_colour)
        assert 0.9 < (np.abs(either.predict(codes) - scene) <= widths).mean() < 0.999
    light = srgb_decode(codes / 255).astype(np.float32)
    np.testing.assert_allclose(either.interval(light, encoding="linear"), either.interval(codes), rtol=1e-4)


def test_intervals_belong_to_the_card_and_the_weights(regression, tmp_path):
    card = json.loads((REGRESSION / MODEL_FILE).read_text())
    arrays = load_file(REGRESSION / WEIGHTS_FILE)
    assert card["uncertainty"]["coverage"] == 0.9
    (tmp_path / MODEL_FILE).write_text(json.dumps(card))
    save_file(arrays | {CUBE: arrays[CUBE][:9]}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(InputError, match=rf"{WEIGHTS_FILE}: {CUBE}: found an array of shape \(9, 31\)"):
        m3sr_jax.load(tmp_path)
    save_file(arrays, tmp_path / WEIGHTS_FILE)
    assert m3sr_jax.load(tmp_path).fingerprint() == regression.fingerprint()
    (tmp_path / MODEL_FILE).write_text(json.dumps({key: card[key] for key in card if key != "uncertainty"}))
    plain = m3sr_jax.load(tmp_path)
    assert plain.fingerprint() != regression.fingerprint()
    with pytest.raises(InputError, match="the model has no intervals"):
        plain.interval(np.zeros((8, 8, 3), np.uint8))
    for faults in ({"uncertainty": {"coverage": 90}}, {"uncertainty": [0.9]}, {"encoding": "codes"}):
        with pytest.raises(InputError, match="uncertainty"):
            ModelCard.from_json(json.dumps(card | faults))


def test_a_network_with_intervals_comes_back_from_the_form_of_the_shipped_model(regression, tmp_path):
    fields = ModelConfig(num_groups=1, features=4, branches=("spectral",), base="root2")
    card = dataclasses.replace(regression.card, model=fields)
    params = init_params(build_model(fields), jax.random.key(0))
    write_weights(tmp_path, card, params, regression.uncertainty)
    loaded = m3sr_jax.load(tmp_path)
    assert loaded.fingerprint() == m3sr_jax.Predictor(loaded.model, params, card, regression.uncertainty).fingerprint()
    codes = np.zeros((16, 16, 3), np.uint8)
    np.testing.assert_array_equal(loaded.interval(codes), regression.interval(codes))
    write_weights(tmp_path, dataclasses.replace(card, uncertainty=None), params, None)
    assert m3sr_jax.load(tmp_path).uncertainty is None


def test_scores_on_photos_of_cave(network, regression):
    """The network beats its base, or it would not ship."""
    folder = os.environ.get("M3SR_DATA_DIR")
    if not folder:
        pytest.skip("set M3SR_DATA_DIR to a folder with cave26_128.h5 to score the model on measured scenes")
    scores = np.array([cave_scores(which, Path(folder) / "cave26_128.h5") for which in (network, regression)])
    assert np.all((scores[:, 2] > COVERAGE[0]) & (scores[:, 2] < COVERAGE[1]))
    for (psnr, angle, _), (least, most) in zip(scores, (OWN, OWN_OF_REGRESSION), strict=True):
        assert psnr > least
        assert angle < most


def cave_scores(model, path):
    """Mean PSNR, angle over bright pixels, and coverage on CAVE's own bitmaps."""
    found = []
    with h5py.File(path) as file:
        for name in file["cube"]:
            cube = np.moveaxis(file["cube"][name][:], 0, -1) / 65535
            predicted = model.predict(file["rgb_d65"][name][:]).astype(np.float64)
            factor = np.sum(predicted * cube) / np.sum(predicted**2)
            predicted *= factor
            error = np.mean((np.clip(predicted, 0, 1) - cube) ** 2)
            norms = np.linalg.norm(predicted, axis=-1), np.linalg.norm(cube, axis=-1)
            bright = (norms[1] > 0.05 * np.sqrt(31)) & (norms[0] > 0)
            cosine = np.sum(predicted * cube, -1)[bright] / (norms[0] * norms[1])[bright]
            widths = factor * model.interval(file["rgb_d65"][name][:])
            inside = (np.abs(predicted - cube) <= widths)[norms[1] > 0.05 * np.sqrt(31)].mean()
            found.append((-10 * np.log10(error), np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(), inside))
    assert len(found) == 26
    return np.mean(found, axis=0)
