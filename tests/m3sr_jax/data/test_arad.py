"""NTIRE 2022 and 2020 as downloaded, with every variation of their files."""

import numpy as np
import pytest
from PIL import Image

from m3sr_jax.config import DataConfig
from m3sr_jax.data.arad import LAYOUTS, open_arad
from m3sr_jax.data.camera import load_camera, quantise
from m3sr_jax.data.open import open_dataset
from m3sr_jax.errors import InputError
from tests.m3sr_jax.data import arad_folder as arad


def opened(name, root, **fields):
    return open_arad(LAYOUTS[name], root, **fields)


def test_the_official_splits():
    train, valid = LAYOUTS["ntire2022"].split["train"], LAYOUTS["ntire2022"].split["valid"]
    assert (len(train), len(valid), len({*train, *valid})) == (897, 50, 947)
    assert not {"ARAD_1K_0314", "ARAD_1K_0340", "ARAD_1K_0531"} & set(train)
    assert (train[0], train[-1], valid[0], valid[-1]) == (
        *("ARAD_1K_0001", "ARAD_1K_0900", "ARAD_1K_0901", "ARAD_1K_0950"),
    )
    for name in ("ntire2020_clean", "ntire2020_real"):
        split = LAYOUTS[name].split
        assert len(split["train"]) == 450
        assert [int(stem[-4:]) for stem in split["valid"]] == [451, 453, 455, 456, 457, 459, 462, 463, 464, 465]


def test_ntire2022_cubes_are_exact_and_photos_stretched_per_image(tmp_path):
    cubes = arad.ntire2022(tmp_path)
    dataset = opened("ntire2022", tmp_path)
    assert dataset.train.names == ("ARAD_1K_0001", "ARAD_1K_0002", "ARAD_1K_0003")
    assert (dataset.valid.names, dataset.train.rgb_normalization) == (("ARAD_1K_0901",), "minmax")
    assert len(dataset.missing) == 943
    for source in (dataset.train, dataset.valid):
        for scene in source:
            np.testing.assert_array_equal(scene.cube, cubes[scene.name])
            np.testing.assert_array_equal(scene.wavelengths, arad.NM)
            codes = np.asarray(Image.open(tmp_path / "Train_RGB" / f"{scene.name}.jpg"), np.float64)
            expected = (codes - codes.min()) / (codes.max() - codes.min())
            np.testing.assert_allclose(scene.rgb, expected, atol=1e-6)
            assert (scene.rgb.min(), scene.rgb.max()) == (0, 1)
    window = dataset.train.window(1, 5, 6, 8, 9)  # stretched by the whole image's range, not its own
    np.testing.assert_array_equal(window.rgb, dataset.train[1].rgb[5:13, 6:15])


@pytest.mark.parametrize("word", ["Validation", "Validate"])
def test_ntire2020_is_v5_and_v73_divided_by_255(tmp_path, word):
    cubes = arad.ntire2020(tmp_path / "nested" / "twice", word=word)
    for name in ("ntire2020_clean", "ntire2020_real"):
        dataset = opened(name, tmp_path)
        assert (dataset.train.names, dataset.valid.names) == (("ARAD_HS_0001", "ARAD_HS_0002"), ("ARAD_HS_0451",))
        assert dataset.train.rgb_normalization == "unit"
        for scene in (*dataset.train, *dataset.valid):
            np.testing.assert_array_equal(scene.cube, cubes[scene.name])
    clean = opened("ntire2020_clean", tmp_path).train[0]
    np.testing.assert_array_equal(np.rint(clean.rgb * 255), arad.photo_of(cubes["ARAD_HS_0001"]))


@pytest.mark.parametrize(
    ("spec", "rgb"), [("Train_spectral", "Train_RGB"), ("Valid_Spec", "Valid_RGB"), ("train_spec", "a/b/TRAIN_RGB")]
)
def test_folders_may_have_other_names(tmp_path, spec, rgb):
    arad.ntire2022(tmp_path, spec=spec, rgb=rgb)
    (tmp_path / "Thumbs.db").write_bytes(b"left by Windows")
    (tmp_path / "._ARAD_1K_0004.mat").write_bytes(b"left by macOS")
    assert len(opened("ntire2022", tmp_path).train) == 3


def test_a_second_photo_of_a_scene_is_refused(tmp_path):
    arad.ntire2022(tmp_path)
    arad.write_photo(tmp_path / "previews" / "ARAD_1K_0002.png", np.zeros((24, 30, 3), np.uint8))
    told = r"previews/ARAD_1K_0002\.png: a second photo of scene ARAD_1K_0002, beside .*Train_RGB/ARAD_1K_0002\.jpg"
    with pytest.raises(InputError, match=told):
        opened("ntire2022", tmp_path)
    assert opened("ntire2022", tmp_path, camera="cie1964").train.camera_name == "cie1964"


def write_with_axes(root, number, stored, **options):
    """Writes one more training scene with its axes in another order."""
    cube, name = arad.random_cube(number), f"ARAD_1K_{number:04d}"
    arad.write_photo(root / "Train_RGB" / f"{name}.jpg", arad.photo_of(cube))
    arad.write_v73(root / "Train_Spec" / f"{name}.mat", stored(cube), reversed_axes=False, **options)
    return cube


def test_the_order_of_axes_follows_from_the_shapes(tmp_path):
    arad.ntire2022(tmp_path, train=(1,))
    expected = {
        "ARAD_1K_0002": write_with_axes(
            tmp_path, 2, lambda cube: cube, attribute=False
        ),  # (H, W, S) as Python writes it
        "ARAD_1K_0003": write_with_axes(tmp_path, 3, lambda cube: cube.transpose(2, 0, 1)),  # (S, H, W): rotated
        "ARAD_1K_0004": write_with_axes(tmp_path, 4, lambda cube: cube.transpose(2, 1, 0), attribute=False),
        "ARAD_1K_0005": write_with_axes(tmp_path, 5, lambda cube: cube.transpose(1, 2, 0)),  # (W, S, H)
    }
    dataset = opened("ntire2022", tmp_path)
    for index, name in enumerate(dataset.train.names):
        scene = dataset.train[index]
        assert dataset.train.size(index) == scene.cube.shape[:2] == scene.rgb.shape[:2] == arad.SIZE
        if name in expected:
            np.testing.assert_array_equal(scene.cube, expected[name], err_msg=name)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage(root, kind):
    cube, photo = root / "Train_Spec" / "ARAD_1K_0002.mat", root / "Train_RGB" / "ARAD_1K_0002.jpg"
    if kind == "truncated cube":
        truncate(cube)
    elif kind == "truncated v5 cube":
        arad.write_v5(cube, arad.random_cube(2))
        truncate(cube)
    elif kind == "no cube inside":
        arad.write_v5(cube, arad.random_cube(2))
        cube.write_bytes(cube.read_bytes().replace(b"cube", b"cute"))
    elif kind == "30 bands":
        arad.write_v73(cube, arad.random_cube(2, bands=30), arad.NM[:30])
    elif kind == "30 bands without nm":
        arad.write_v73(cube, arad.random_cube(2, bands=30), None)
    elif kind == "other photo size":
        arad.write_photo(photo, np.zeros((24, 31, 3), np.uint8))
    elif kind == "photo is text":
        photo.write_text("404 not found")


DAMAGES = {
    "truncated cube": r"ARAD_1K_0002\.mat: cannot be read as an HDF5 file",
    "truncated v5 cube": r"ARAD_1K_0002\.mat: cannot be read as a MATLAB file",
    "no cube inside": r"ARAD_1K_0002\.mat: found no array called cube; expected one of bands .*, cute .*, norm_factor",
    "30 bands": r"ARAD_1K_0002\.mat: found 30 bands of 400-690 nm; expected 31 of 400-700 nm",
    "30 bands without nm": r"ARAD_1K_0002\.mat: found a cube of shape \(24, 30, 30\) without wavelengths .* give them",
    "other photo size": r"ARAD_1K_0002\.jpg: found a photo of 24×31 pixels; expected 24×30",
    "photo is text": r"ARAD_1K_0002\.jpg: cannot be read as an image",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_unusable_files_are_reported_on_opening(tmp_path, kind):
    arad.ntire2022(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(InputError, match=DAMAGES[kind]):
        opened("ntire2022", tmp_path)
    faults = []
    dataset = opened("ntire2022", tmp_path, faults=faults)
    assert len(faults) == 1
    assert dataset.train.names == ("ARAD_1K_0001", "ARAD_1K_0003")


def test_a_photo_without_a_cube_and_a_cube_without_a_photo_are_missing_files(tmp_path):
    arad.ntire2022(tmp_path)
    (tmp_path / "Train_Spec" / "ARAD_1K_0001.mat").unlink()
    (tmp_path / "Train_RGB" / "ARAD_1K_0002.jpg").unlink()
    dataset = opened("ntire2022", tmp_path)
    assert dataset.train.names == ("ARAD_1K_0003",)
    assert dataset.missing[:2] == ("ARAD_1K_0001.mat", "ARAD_1K_0002.jpg")


def test_a_camera_renders_the_photos(tmp_path):
    cubes = arad.ntire2020(tmp_path)
    scene = opened("ntire2020_clean", tmp_path, camera="cie1964").train[0]
    expected = quantise(load_camera("cie1964").render(cubes[scene.name], arad.NM))
    np.testing.assert_array_equal(np.rint(scene.rgb * 255), expected)


def test_other_bands_keep_their_wavelengths(tmp_path):
    nm = np.linspace(400.0, 1000.0, 28)
    for number in (1, 901):
        name = f"ARAD_1K_{number:04d}"
        cube = arad.random_cube(number, bands=28)
        arad.write_v73(tmp_path / f"{name}.mat", cube, nm)
        arad.write_photo(tmp_path / f"{name}.jpg", arad.photo_of(cube))
    dataset = opened("ntire2022", tmp_path)
    np.testing.assert_array_equal(dataset.train.wavelengths, nm)
    assert dataset.train[0].cube.shape == (*arad.SIZE, 28)


def test_fingerprint_and_scene_keys_depend_on_files_and_camera(tmp_path):
    arad.ntire2020(tmp_path)
    plain, again, taken = (opened("ntire2020_clean", tmp_path, camera=name).train for name in ("", "", "cie1964"))
    assert plain.fingerprint() == again.fingerprint() != taken.fingerprint()
    assert plain.scene_key(0) == again.scene_key(0) not in (plain.scene_key(1), taken.scene_key(0))


def test_a_folder_without_scenes_is_refused_with_the_names_expected(tmp_path):
    with pytest.raises(InputError, match=r"no training scene \(found 0 of 897 training and 0 of 50 validation scenes"):
        open_dataset(DataConfig(name="ntire2022", root=str(tmp_path)))
