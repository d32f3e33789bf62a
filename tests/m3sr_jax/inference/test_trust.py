import numpy as np
import pytest
from PIL import Image

from m3sr_jax.inference.trust import assess
from m3sr_jax.io import read_photo
from m3sr_jax.io.photos.spaces import srgb_encode


def saved(path, light, **options):
    Image.fromarray(np.rint(srgb_encode(np.clip(light, 0, 1)) * 255).astype(np.uint8)).save(path, **options)
    return assess(read_photo(path), path)


@pytest.fixture
def colours():
    return np.random.default_rng(0).uniform(0.1, 0.7, (64, 64, 3))


def test_a_white_balanced_photo_has_a_white_near_one(tmp_path, colours):
    trust = saved(tmp_path / "a.png", colours)
    assert trust.red == pytest.approx(1, abs=0.03)
    assert trust.blue == pytest.approx(1, abs=0.03)
    assert (trust.clipped, trust.dark, trust.grey, trust.jpeg_quality, trust.profile) == (0, 0, False, None, None)
    assert trust.line().endswith("0.0% clipped; 0.0% dark; no profile, sRGB assumed")


def test_a_cast_is_told(tmp_path, colours):
    trust = saved(tmp_path / "a.png", colours * [1.2, 1, 0.8])
    assert trust.red == pytest.approx(1.2, abs=0.05)
    assert trust.blue == pytest.approx(0.8, abs=0.05)
    assert "white balance may be off" in trust.line()


def test_clipped_dark_and_grey_shares(tmp_path, colours):
    colours[:16], colours[16:48] = 1.0, 0.01
    trust = saved(tmp_path / "a.png", colours)
    assert (trust.clipped, trust.dark) == (0.25, 0.5)
    assert saved(tmp_path / "b.png", colours[..., :1].repeat(3, 2)).grey


@pytest.mark.parametrize("quality", [30, 60, 85, 95])
def test_jpeg_quality_is_that_of_the_tables(tmp_path, colours, quality):
    trust = saved(tmp_path / "a.jpg", colours, quality=quality)
    assert trust.jpeg_quality == pytest.approx(quality, abs=1)
    assert f"JPEG quality about {trust.jpeg_quality}" in trust.line()


def test_photos_beyond_the_limit_of_pillow_are_judged(tmp_path, colours, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert saved(tmp_path / "a.jpg", colours, quality=85).jpeg_quality == pytest.approx(85, abs=1)


def test_black_and_white_photos_have_no_white_to_judge(tmp_path):
    for level in (0.0, 1.0):
        trust = saved(tmp_path / "a.png", np.full((16, 16, 3), level))
        assert (trust.red, trust.blue) == (1, 1)
