"""Exposure, noise and compression of training photos."""

import dataclasses

import numpy as np
import pytest

from m3sr_jax.config import DataConfig
from m3sr_jax.data.augmentation import Augmentation, check_exposure, exposed, make_augmentation
from m3sr_jax.data.camera import Shot, load_camera, quantise
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.pipeline import train_batches
from m3sr_jax.data.scenes import CodedScene, decode
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS

SHOT = Shot(load_camera("cie1964").matrix(BANDS))


def coded_scene(seed=0, size=(16, 20)):
    rng = np.random.default_rng(seed)
    cube = rng.integers(0, 65536, (*size, 1)).repeat(31, -1).astype(np.uint16)
    return CodedScene("scene", quantise(SHOT(decode(cube), rng)), cube)


@pytest.mark.parametrize("exposure", [0.25, 0.5, 1.0, 1.7])
def test_a_camera_takes_the_photo_of_the_brighter_cube_before_rounding_and_clipping(exposure):
    scene, rng = coded_scene(), np.random.default_rng(0)
    changed, clipped = exposed(scene, exposure, SHOT, rng)
    cube = exposure * decode(scene.cube)
    np.testing.assert_allclose(decode(changed.cube, 0, changed.unit), cube, rtol=1e-6)
    np.testing.assert_array_equal(changed.cube, scene.cube)
    light = cube @ SHOT.matrix
    assert np.abs(changed.rgb - np.rint(255 * np.clip(light, 0, 1))).max() <= 1  # ties of rounding
    np.testing.assert_array_equal(clipped, (light > 1).any(-1))
    assert clipped.any() == (exposure > 1)


def test_the_codes_of_a_photo_file_are_scaled_and_white_stays_unknown():
    scene = coded_scene()
    scene.rgb[0, 0] = 255
    darker, clipped = exposed(scene, 0.5, None, np.random.default_rng(0))
    np.testing.assert_array_equal(darker.rgb, np.rint(scene.rgb.astype(np.float32) / 255 * np.float32(0.5) * 255))
    np.testing.assert_array_equal(clipped, (scene.rgb == 255).any(-1))
    brighter, clipped = exposed(scene, 2.0, None, np.random.default_rng(0))
    np.testing.assert_array_equal(clipped, (scene.rgb > 127).any(-1))
    assert brighter.rgb[clipped].max() == 255


def test_noise_has_its_standard_deviation_and_leaves_the_cube_alone():
    scene = coded_scene(size=(100, 100))
    scene.cube[:], scene.rgb[:] = 32768, 127
    changed, _ = exposed(scene, 1.0, SHOT, np.random.default_rng(0), noise=0.1)
    assert (changed.rgb / 255.0).std() == pytest.approx(0.1, rel=0.03)
    assert changed.unit == scene.unit


def test_compression_changes_smooth_colours_little_and_reads_no_file():
    scene = coded_scene(size=(32, 32))
    scene.rgb[:] = np.linspace(20, 200, 32).astype(np.uint8)[:, None, None]
    augmentation = Augmentation(SHOT, 1.0, jpeg_quality=(90, 95))
    changed, clipped = augmentation(scene, np.random.default_rng(0))
    difference = np.abs(changed.rgb.astype(int) - scene.rgb)
    assert 0 < difference.max() < 12
    assert not clipped.any()
    worse, _ = Augmentation(SHOT, 1.0, jpeg_quality=(5, 5))(scene, np.random.default_rng(0))
    assert np.abs(worse.rgb.astype(int) - scene.rgb).mean() > difference.mean()


def test_each_change_has_the_probability_and_the_range():
    augmentation = Augmentation(SHOT, 0.25, exposure=(-2.0, 1.0))
    scene = coded_scene(size=(4, 4))
    units = np.array([augmentation(scene, np.random.default_rng(i))[0].unit for i in range(2000)])
    factors = np.log2(scene.unit / units)
    assert np.mean(units != scene.unit) == pytest.approx(0.25, abs=0.03)
    assert factors.min() > -2
    assert factors.max() < 1
    assert np.mean(factors[factors != 0]) == pytest.approx(-0.5, abs=0.15)


CONFIG = DataConfig(scene_size=32, num_train_scenes=3, num_valid_scenes=1, batch_size=2, crop_size=16)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_dataset(dataclasses.replace(CONFIG, root=str(tmp_path_factory.mktemp("scenes")))).train


def batches_of(source, workers=0, **fields):
    augmentation = make_augmentation(dataclasses.replace(CONFIG, **fields), source)
    return train_batches(source, batch_size=2, crop_size=16, seed=3, num_workers=workers, augmentation=augmentation)


ALL = {"exposure": (-1.0, 1.0), "noise": 0.02, "jpeg_quality": (60, 95)}


def test_batches_depend_on_seed_and_index_alone(source):
    once = batches_of(source, **ALL)
    first = [next(once) for _ in range(6)]
    again = batches_of(source, workers=1, **ALL)
    again.set_state({"next_batch": 4})
    for expected in first[4:]:
        found = next(again)
        assert expected.keys() == found.keys() == {"rgb", "cube", "clipped"}
        for key in expected:
            np.testing.assert_array_equal(expected[key], found[key])
    once.close()
    again.close()


def test_crops_that_nothing_happens_to_are_those_without_augmentation(source):
    plain, augmented = batches_of(source), batches_of(source, augment_probability=1e-9, **ALL)
    for _ in range(4):
        expected, found = next(plain), next(augmented)
        assert not found.pop("clipped").any()
        for key in expected.keys() | found.keys():
            np.testing.assert_array_equal(expected[key], found[key])
    plain.close()
    augmented.close()


def test_mask_photo_and_cube_are_turned_together(source):
    batches = batches_of(source, augment_probability=1.0, exposure=(1.0, 1.0))
    for _ in range(4):
        batch = next(batches)
        assert batch["clipped"].shape == batch["rgb"].shape[:3]
        white = (batch["rgb"] == 1).any(-1)
        assert np.mean(white == batch["clipped"]) > 0.995  # rounding reaches white a little earlier
    batches.close()


def test_exposure_is_refused_where_photos_are_normalised_by_their_range(source):
    assert make_augmentation(CONFIG, source) is None
    source.rgb_normalization = "minmax"
    try:
        with pytest.raises(InputError, match=r"data\.exposure: photos of synthetic .* undoes any exposure"):
            make_augmentation(dataclasses.replace(CONFIG, exposure=(-1.0, 1.0)), source)
        with pytest.raises(InputError, match="--exposures"):
            check_exposure("--exposures", "ntire2022", source)
        assert make_augmentation(dataclasses.replace(CONFIG, noise=0.1), source) is not None
    finally:
        source.rgb_normalization = "unit"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"exposure": (1.0,)}, "two numbers from -8 to 8"),
        ({"exposure": (1.0, -1.0)}, "rising"),
        ({"jpeg_quality": (0, 50)}, "from 1 to 95"),
        ({"noise": -1.0}, "0 or more"),
        ({"augment_probability": 0.0}, "more than 0"),
    ],
)
def test_ranges_are_checked(fields, told):
    with pytest.raises(InputError, match=told):
        DataConfig(**fields)
