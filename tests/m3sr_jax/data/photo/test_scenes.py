import numpy as np
import pytest

from m3sr_jax.data.photo.develop import display_matrix
from m3sr_jax.data.photo.scenes import PhotoSpec, open_photo
from m3sr_jax.data.pipeline import train_batches
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS

SPEC = PhotoSpec(num_train=6, num_valid=3, height=48, width=40)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("photo")


@pytest.fixture(scope="module")
def photos(root):
    return open_photo(SPEC, root)


def test_photos_are_linear_light_of_eight_bit_codes(photos):
    source = photos.train
    scene, coded = source[0], source.coded_window(0, 0, 0, 48, 40)
    assert (len(source), len(photos.valid), scene.rgb.shape, scene.cube.shape) == (6, 3, (48, 40, 3), (48, 40, 31))
    assert (source.encoding, source.quantity, source.scale) == ("linear", "reflectance", "white of the photo")
    np.testing.assert_array_equal(scene.wavelengths, BANDS)
    codes = coded.rgb / 255
    light = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(scene.rgb, light, atol=1e-6)


def test_the_target_gives_back_the_decoded_photo_in_brightness(photos):
    for source in (photos.train, photos.valid):
        for scene in source:
            seen = (scene.rgb < 0.9).all(-1) & (scene.cube.max(-1) < 1)
            shown = scene.cube[seen] @ display_matrix()
            gain = np.sum(shown * scene.rgb[seen]) / np.sum(shown**2)
            assert gain == pytest.approx(1, abs=0.05)


def test_batches_are_decoded_as_scenes_are(photos):
    batches = train_batches(photos.train, batch_size=2, crop_size=40, seed=0)
    try:
        batch = next(batches)
    finally:
        batches.close()
    scenes = [scene.rgb for scene in photos.train]
    assert any(
        np.isclose(batch["rgb"][0].mean(), rgb[top : top + 40].mean(), atol=1e-6) for rgb in scenes for top in range(9)
    )


def test_photos_are_made_once_and_the_same_everywhere(photos, root, tmp_path):
    again = open_photo(SPEC, tmp_path)
    assert again.train.names == photos.train.names
    np.testing.assert_array_equal(again.valid[2].cube, photos.valid[2].cube)
    (folder,) = root.iterdir()
    (folder / "train_names.json").write_text("[")
    with pytest.raises(InputError, match="damaged scenes"):
        open_photo(SPEC, root)
