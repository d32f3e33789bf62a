"""A loaded checkpoint predicts photos of any kind and size."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen as nn

import m3sr_jax
from m3sr_jax.checkpoint import save_model
from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.inference.predictor import WHOLE_PIXELS, Predictor, run_network
from m3sr_jax.io.photos.photo import Photo
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import M3SR, build_model, create, init_params, parameter_shapes

FIELDS = ModelConfig(num_groups=1, features=4, num_bands=3, branches=("spatial",))
CARD = ModelCard(FIELDS, (450.0, 550.0, 650.0), "minmax")
# Tiles see less context than the photo: with random weights, overlap by half leaves an error of 5e-3 of the cube.
TILE_TOLERANCE = 1e-2
# Programs of different shapes, and sums in a different order, round differently.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(build_model(FIELDS))
    )
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, CARD, params)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return m3sr_jax.load(folder)


def photo(height=72, width=88):
    return np.random.default_rng(1).integers(20, 200, (height, width, 3)).astype(np.uint8)


def test_the_cards_normalisation_and_wavelengths_are_used(predictor):
    codes = photo()
    cube = predictor.predict(codes)
    assert (cube.shape, cube.dtype) == ((72, 88, 3), np.float32)
    np.testing.assert_array_equal(predictor.wavelengths, [450, 550, 650])
    stretched = (codes - np.float32(codes.min())) / np.float32(codes.max() - codes.min())
    expected = run_network(predictor.model, predictor.params, stretched)
    np.testing.assert_allclose(cube, expected, atol=ROUNDING * np.abs(expected).max())
    big_endian = (codes.astype(np.uint16) * 257).astype(">u2")
    for same in (codes / np.float32(255), codes / 255.0, codes.astype(np.uint16) * 257, big_endian):
        np.testing.assert_allclose(predictor.predict(same), cube, atol=ROUNDING * np.abs(cube).max())


def test_tiles_come_close_to_the_whole(predictor):
    codes = photo(100, 120)
    whole, ticks = predictor.predict(codes), []
    tiled = predictor.predict(codes, tile=64, overlap=32, tick=lambda *count: ticks.append(count))
    assert ticks[-1] == (9, 9)
    error = np.abs(tiled - whole).max()
    assert 0 < error < TILE_TOLERANCE * np.abs(whole).max()
    assert error < 0.1 * np.abs(predictor.predict(codes, tile=64, overlap=0) - whole).max()
    np.testing.assert_array_equal(predictor.predict(codes, tile=0), whole)


def predictor_of(name, **fields):
    model = create(name, **fields)
    return Predictor(model, init_params(model, jax.random.key(0)), CARD)


@pytest.mark.parametrize(
    ("name", "fields"), [("fmnet", {"blocks": 1, "width": 2}), ("hscnn_plus", {"dense_blocks": 1})]
)
def test_a_network_without_a_grid_gets_the_photo_as_it_is(name, fields):
    whole = predictor_of(name, num_bands=3, **fields)
    rgb = photo(13, 21) / np.float32(255)
    stretched = (rgb - rgb.min()) / (rgb.max() - rgb.min())
    expected = whole.model.apply({"params": whole.params}, stretched[None])[0]
    np.testing.assert_allclose(whole.predict(rgb), expected, atol=ROUNDING * np.abs(expected).max())


def test_tiles_of_a_network_with_a_margin_are_exact():
    local = predictor_of("fmnet", num_bands=3, blocks=1, width=2)
    assert local.model.margin == 32
    codes, ticks = photo(150, 131), []
    whole = local.predict(codes)
    tiled = local.predict(codes, tile=128, overlap=0, tick=lambda *count: ticks.append(count))
    assert ticks[-1] == (4, 4)
    np.testing.assert_allclose(tiled, whole, atol=ROUNDING * np.abs(whole).max())
    approximate = local.predict(codes, tile=120, overlap=0)  # half a tile is less than two margins
    assert np.abs(approximate - whole).max() > 100 * ROUNDING * np.abs(whole).max()


def test_tiles_share_the_brightness_of_the_photo():
    fields = ModelConfig(name="pixel", normalise_exposure=True)
    model = build_model(fields)
    card = ModelCard(fields, tuple(400.0 + 10 * band for band in range(31)))
    per_pixel = Predictor(model, init_params(model, jax.random.key(0)), card)
    codes = photo(200, 130)
    codes[:100] //= 8
    whole, tiled = (per_pixel.predict(codes, tile=tile) for tile in (0, 64))
    np.testing.assert_allclose(tiled, whole, atol=ROUNDING * np.abs(whole).max())
    alone = per_pixel.predict(codes[:100], tile=0)
    assert np.abs(alone - whole[:100]).max() > 0.01 * np.abs(whole).max()


def test_only_large_photos_are_tiled_by_default(predictor, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "m3sr_jax.inference.predictor.run_network",
        lambda model, params, rgb, _: calls.append(rgb.shape) or np.zeros((*rgb.shape[:2], 3), np.float32),
    )
    side = int(WHOLE_PIXELS**0.5)
    predictor.predict(np.zeros((side, side, 3), np.uint8))
    assert calls == [(side, side, 3)]
    calls.clear()
    predictor.predict(np.zeros((side, side + 8, 3), np.uint8))
    assert set(calls) == {(448, 448, 3)}
    calls.clear()
    predictor.predict(np.zeros((side, side + 9, 3), np.uint8), tile=0)
    assert calls == [(side, side + 16, 3)]


def test_the_ensemble_is_the_mean_over_turned_photos(predictor):
    codes = photo(64, 64)
    parts = [
        np.rot90(predictor.predict(np.rot90(image, turns)), -turns) for image in (codes,) for turns in range(4)
    ] + [
        np.rot90(predictor.predict(np.rot90(image, turns)), -turns)[:, ::-1]
        for image in (codes[:, ::-1],)
        for turns in range(4)
    ]
    cube = predictor.predict(codes, ensemble=True)
    np.testing.assert_allclose(cube, np.mean(parts, axis=0), atol=ROUNDING * np.abs(cube).max())
    assert np.abs(cube - parts[0]).max() > 1e-3 * np.abs(cube).max()


@pytest.mark.parametrize(
    ("rgb", "message"),
    [
        (np.zeros((7, 40, 3), np.uint8), r"\(7, 40, 3\)"),
        (np.zeros((40, 40, 3), np.float32) + 2, "values from 2 to 2; expected floating-point RGB in"),
        (np.zeros((40, 40, 3), np.int32), "int32 values"),
        (np.full((40, 40, 3), np.nan), "values from nan"),
    ],
)
def test_arrays_that_are_not_photos_are_rejected(predictor, rgb, message):
    with pytest.raises(InputError, match=message):
        predictor.predict(rgb)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tile": 100}, "multiple of 8"), ({"tile": 32}, "at least 64"), ({"overlap": 300}, "up to half")],
)
def test_invalid_tiles_are_rejected_before_any_work(predictor, options, message):
    with pytest.raises(InputError, match=message):
        predictor.predict_rows(photo(), **options)


@pytest.mark.parametrize("encoding", ["Linear", "codes"])
def test_an_unknown_encoding_is_refused(predictor, monkeypatch, encoding):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users, whose types nobody checks
    with pytest.raises(InputError, match=f'encoding: found "{encoding}", expected "srgb" or "linear"'):
        predictor.predict(photo(), encoding=encoding)


def test_running_out_of_memory_names_the_remedy(predictor, monkeypatch):
    def apply(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory while trying to allocate")

    monkeypatch.setattr("m3sr_jax.inference.predictor._apply", apply)
    with pytest.raises(InputError, match="choose a smaller tile"):
        predictor.predict(photo())
    with pytest.raises(InputError, match=r"image of 72×88 pixels: does not fit in memory .* m3sr score"):
        run_network(predictor.model, predictor.params, photo() / np.float32(255))


def test_fingerprints_distinguish_models(predictor):
    other = dataclasses.replace(predictor, card=dataclasses.replace(CARD, rgb_normalization="unit"))
    params = jax.tree.map(np.copy, predictor.params)
    params["conv_in"]["kernel"][0, 0, 0, 0] += 1
    changed = dataclasses.replace(predictor, params=params)
    assert len({predictor.fingerprint(), other.fingerprint(), changed.fingerprint()}) == 3


class Bands(nn.Module):
    """A one-layer network that records the shapes it is traced with."""

    traces = []  # noqa: RUF012  shared by the instances on purpose

    @nn.compact
    def __call__(self, rgb):
        self.traces.append(rgb.shape)
        return nn.Dense(31)(rgb)


def test_the_program_is_compiled_once_for_each_size():
    params = Bands().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    images = [np.full((size, size + 1, 3), 0.5, np.float32) for size in (12, 12, 20, 12)]
    Bands.traces.clear()
    cubes = [run_network(Bands(), params, image) for image in images]
    assert Bands.traces == [(1, 12, 13, 3), (1, 20, 21, 3)]
    expected = 0.5 * params["Dense_0"]["kernel"].sum(0) + params["Dense_0"]["bias"]
    np.testing.assert_allclose(cubes[2], np.broadcast_to(expected, (20, 21, 31)), rtol=1e-5)
    assert cubes[0].dtype == np.float32


def test_an_image_that_the_model_rejects_is_bad_input():
    with pytest.raises(InputError, match="7×40 pixels"):
        run_network(M3SR(), {}, np.zeros((7, 40, 3), np.float32))


def test_a_photo_knows_its_encoding():
    codes = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    model, linear = m3sr_jax.load(m3sr_jax.REGRESSION), Photo(codes, "linear", "PNG", 8, None, ())
    expected = model.predict(codes, encoding="linear")
    np.testing.assert_array_equal(model.predict(linear), expected)
    np.testing.assert_array_equal(model.interval(linear), model.interval(codes, encoding="linear"))
    assert np.abs(model.predict(codes) - expected).max() > 0.05
