import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from m3sr_jax.data import generated
from m3sr_jax.data import synthetic as module
from m3sr_jax.data.camera import load_camera
from m3sr_jax.data.generated import cache_folder
from m3sr_jax.data.spectra import FAMILIES
from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic, photograph
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS


def test_scenes_are_what_was_asked_for(synthetic):
    assert (len(synthetic.train), len(synthetic.valid)) == (8, 4)
    scene = synthetic.train[0]
    assert scene.cube.shape == (48, 40, 31)
    assert scene.rgb.shape == (48, 40, 3)
    np.testing.assert_array_equal(scene.wavelengths, np.arange(400, 701, 10))
    assert synthetic.train.size(0) == (48, 40)
    assert (synthetic.train.rgb_normalization, synthetic.train.camera_name) == ("unit", "cie1964")
    assert not set(synthetic.train.names) & set(synthetic.valid.names)


def test_lights_follow_the_cycle_of_families(synthetic):
    marks = {"daylight": "D", "led": "LED-", "fluorescent": "FL", "tungsten": ""}
    for name, family in zip(synthetic.train.names, FAMILIES, strict=True):
        light = name.split("_")[-1]
        assert light.startswith(marks[family])
        assert light.endswith("K") == (family == "tungsten")
    assert set(FAMILIES) == set(marks)


def test_photo_shows_the_cube(synthetic):
    for source in (synthetic.train, synthetic.valid):
        for scene in source:
            clean = load_camera("cie1964").render(scene.cube, BANDS)
            error = scene.rgb - clean
            assert abs(float(error.mean())) < 1e-3
            assert 0.005 < float(error.std()) < 0.025  # noise and 8 bits, no more
            np.testing.assert_array_equal(np.rint(scene.rgb * 255) / np.float32(255), scene.rgb)


def test_noise_is_shot_and_read_noise():
    rng = np.random.default_rng(0)
    for level in (0.0, 0.2, 0.8):
        cube = np.full((200, 200, 31), level, np.float32)
        signal = level * 255 / 256
        codes = photograph(cube, load_camera("cie1964"), rng)[..., 0].astype(float) / 255
        expected = np.sqrt(signal / module.FULL_WELL + (module.READ_NOISE / module.FULL_WELL) ** 2 + 1 / (12 * 255**2))
        if level:
            assert codes.std() == pytest.approx(expected, rel=0.05)
            assert codes.mean() == pytest.approx(signal, abs=1e-3)
        else:
            assert 0 < codes.max() < 8 * module.READ_NOISE / module.FULL_WELL


def test_same_spec_gives_the_same_scenes_elsewhere(synthetic, synthetic_spec, tmp_path):
    again = open_synthetic(synthetic_spec, tmp_path)
    assert again.train.names == synthetic.train.names
    np.testing.assert_array_equal(again.train[3].cube, synthetic.train[3].cube)
    np.testing.assert_array_equal(again.valid[3].rgb, synthetic.valid[3].rgb)
    assert again.train.fingerprint() == synthetic.train.fingerprint() != again.valid.fingerprint()


def test_more_scenes_begin_with_the_same_ones(synthetic, synthetic_spec, tmp_path):
    more = open_synthetic(dataclasses.replace(synthetic_spec, num_train=9, num_valid=1), tmp_path)
    np.testing.assert_array_equal(more.train[7].cube, synthetic.train[7].cube)


def test_scenes_are_made_once(synthetic_spec, synthetic_root, synthetic, monkeypatch):
    monkeypatch.setattr(generated, "_make_all", lambda *_: pytest.fail("made again"))
    again = open_synthetic(synthetic_spec, synthetic_root)
    np.testing.assert_array_equal(again.train[0].cube, synthetic.train[0].cube)


@pytest.mark.parametrize("change", [{"seed": 1}, {"height": 50}, {"num_train": 9}, {"camera": "other.csv"}])
def test_the_folder_depends_on_every_parameter(synthetic_spec, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.csv").write_text("400,1,1,1\n700,1,1,1\n")
    assert dataclasses.replace(synthetic_spec, **change).key() != synthetic_spec.key()


def test_the_folder_depends_on_the_version(synthetic_spec, monkeypatch):
    before = synthetic_spec.key()
    monkeypatch.setattr(SyntheticSpec, "VERSION", SyntheticSpec.VERSION + 1)
    assert synthetic_spec.key() != before


def test_cache_folder_follows_the_usual_places(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "m3sr-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "m3sr-jax"
    assert cache_folder("here").as_posix() == "here"


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "radiance", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_synthetic(SyntheticSpec(1, 1, 16, 16), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"file/synthetic-\w+: cannot be written .*; set data\.root to a writable folder"
    ):
        open_synthetic(SyntheticSpec(1, 1, 16, 16), tmp_path / "file")


@pytest.mark.parametrize("length", [0, 1000])  # without content after a power failure
def test_damaged_scenes_are_named(tmp_path, length):
    spec = SyntheticSpec(1, 1, 16, 16)
    open_synthetic(spec, tmp_path)
    (file,) = tmp_path.glob("*/train_cube.npy")
    os.truncate(file, length)
    with pytest.raises(InputError, match=r"damaged scenes .*delete the folder"):
        open_synthetic(spec, tmp_path)


def test_threads_open_each_array_once(tmp_path, monkeypatch):
    """NumPy parses a file's header with `ast`, which fails in several threads at once."""
    source = open_synthetic(SyntheticSpec(num_train=2, num_valid=1, height=16, width=16), tmp_path).train
    generated._opened.cache_clear()
    opened = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda path, **how: opened.append(path) or load(path, **how))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: source.coded_window(index % 2, 0, 0, 8, 8), range(64)))
    assert len(opened) == len(set(opened)) == 2
