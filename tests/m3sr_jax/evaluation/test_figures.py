"""The picture is written whole, at a sensible size and any aspect; its four pixels differ in colour."""

import numpy as np
import pytest
from PIL import Image

from m3sr_jax.data.scenes import Scene
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.figures import Estimate, distinct_pixels, reconstruction_figure, wavelength_colour


def patches(height, width, bands=31):
    """Four flat patches of different spectra on black, one of them brighter than the rest, and a noisy corner."""
    rng = np.random.default_rng(0)
    cube = np.zeros((height, width, bands), np.float32)
    for i, (top, left) in enumerate(((0.15, 0.15), (0.15, 0.6), (0.6, 0.15), (0.6, 0.6))):
        spectrum = 0.1 + 0.5 * np.exp(-0.5 * ((np.arange(bands) - bands * i / 3) / 4) ** 2)
        rows, columns = (
            slice(int(start * side), int((start + 0.25) * side)) for start, side in ((top, height), (left, width))
        )
        cube[rows, columns] = spectrum
    cube[: height // 10, : width // 10] = rng.random((height // 10, width // 10, bands))
    return Scene("patches", cube[..., [25, 15, 5]].copy(), cube, np.linspace(400, 700, bands))


@pytest.mark.parametrize(("height", "width"), [(128, 128), (482, 512), (96, 160)])
def test_pixels_fall_on_different_patches(height, width):
    scene = patches(height, width)
    pixels = distinct_pixels(scene.cube, 4)
    quarters = {(row > height / 2, column > width / 2) for row, column in pixels}
    assert len(quarters) == 4
    assert all(scene.cube[pixel].max() > 0.1 for pixel in pixels)
    assert [column for _, column in pixels] == sorted(column for _, column in pixels)
    assert pixels == distinct_pixels(scene.cube, 4)


@pytest.mark.parametrize("cube", [np.zeros((32, 32, 31), np.float32), np.full((32, 40, 16), 0.5, np.float32)])
def test_black_and_flat_scenes_still_give_four_pixels(cube):
    assert len(set(distinct_pixels(cube, 4))) == 4


@pytest.mark.parametrize("fill", [np.nan_to_num(np.float32(-np.inf)), 1e20])
def test_a_value_that_stands_for_a_missing_one_does_not_stop_the_choice(fill):
    cube = patches(96, 128).cube
    cube[40:44, 60:64] = fill
    assert len(set(distinct_pixels(cube, 4))) == 4


def test_a_scene_of_one_band_has_a_picture(tmp_path):
    scene = patches(32, 32)
    scene = Scene("one", scene.rgb, scene.cube[..., :1].copy(), np.array([550.0]))
    reconstruction_figure(scene, Estimate("M3SR", scene.cube), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size


def test_the_picture_is_written_whole(tmp_path):
    scene = patches(96, 128)
    estimate = Estimate("M3SR", scene.cube + 0.01)
    path = tmp_path / "picture.png"
    path.write_text("an earlier one")
    reconstruction_figure(scene, estimate, path, baseline=Estimate("linear", scene.cube * 0.9), title="patches")
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]
    with Image.open(path) as image:
        assert image.width == 2000
        assert 1200 < image.height < 1700
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[:20] == 255).all()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(("height", "width"), [(12, 400), (400, 12)])
def test_scenes_of_extreme_shape_get_a_picture_of_sensible_size(height, width, tmp_path):
    scene = patches(height, width)
    reconstruction_figure(scene, Estimate("M3SR", scene.cube + 0.01), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert image.width == 2000
        assert 900 < image.height < 4000


def test_labels_are_neither_formulas_nor_all_unicode(tmp_path):
    scene = patches(32, 32)
    reconstruction_figure(scene, Estimate("$a_{ $ caf\udce9", scene.cube), tmp_path / "a.png", title="$b^{ $ \udce9")
    assert (tmp_path / "a.png").stat().st_size


def test_spectra_are_those_of_the_requested_pixels(tmp_path):
    scene = patches(96, 128)
    estimate = Estimate("M3SR", scene.cube)
    pictures = []
    for name, pixels in (("few", [(3, 4)]), ("other", [(60, 90)]), ("chosen", [])):
        reconstruction_figure(scene, estimate, tmp_path / f"{name}.png", pixels=pixels)
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert len(set(pictures)) == 3
    with pytest.raises(InputError, match="scene patches: pixel 96,0 lies outside its 96×128 pixels"):
        reconstruction_figure(scene, estimate, tmp_path / "none.png", pixels=[(96, 0)])


def test_colours_of_light():
    blue, green, red = (wavelength_colour(nm) for nm in (450.0, 530.0, 650.0))
    assert np.argmax(blue) == 2
    assert np.argmax(green) == 1
    assert np.argmax(red) == 0
