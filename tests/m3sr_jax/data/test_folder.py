"""One's own scenes: which files belong together, how they are read, and which are held out."""

import os
import re

import numpy as np
import pytest
import scipy.io
from PIL import Image

from m3sr_jax.config import DataConfig
from m3sr_jax.data.folder import open_folder, random_choice
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.store import prepare
from m3sr_jax.errors import InputError
from m3sr_jax.io import write_cube

NM = np.arange(420.0, 540.0, 20)
SIZE = (20, 26)


def make_cube(seed, nm=NM):
    return np.random.default_rng(seed).uniform(0.1, 0.9, (*SIZE, len(nm))).astype(np.float32)


def write_scene(root, name, *, cubes="cubes", photos="photos", photo="{}.png", cube="{}.mat", nm=NM):
    """Writes a pair, and returns its cube and the codes of its photo."""
    values, codes = make_cube(len(name), nm), np.full((*SIZE, 3), 40 + len(name), np.uint8)
    for folder in (cubes, photos):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_cube(root / cubes / cube.format(name), values, nm)
    Image.fromarray(codes).save(root / photos / photo.format(name))
    return values, codes


def opened(root, **fields):
    return open_folder(DataConfig(name="folder", root=str(root), **fields))


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"cubes": "hsi", "photos": "rgb"},
        {"cubes": "a/b", "photos": "a/b"},
        {"photo": "{}_clean.png"},
        {"photo": "{}_RealWorld.jpg", "cube": "{}.npz"},
        {"cube": "{}_hsi.hdr", "photo": "{}_rgb.bmp"},
    ],
)
def test_photos_and_cubes_are_matched_by_name(tmp_path, places):
    scenes = {name: write_scene(tmp_path, name, **places) for name in ("a", "bb", "leaf.2")}
    dataset = opened(tmp_path, valid_fraction=0.34)
    assert sorted(dataset.train.names + dataset.valid.names) == sorted(scenes)
    assert len(dataset.valid) == 1
    for source in (dataset.train, dataset.valid):
        np.testing.assert_array_equal(source.wavelengths, NM)
        assert source.camera_name == "photos of the folder"
        for scene in (source[index] for index in range(len(source))):
            cube, codes = scenes[scene.name]
            np.testing.assert_array_equal(scene.cube, cube)
            np.testing.assert_allclose(scene.rgb, codes / np.float32(255), atol=4 / 255)  # JPEG


def test_folders_and_patterns_choose_between_files(tmp_path):
    for track in ("clean", "camera"):
        write_scene(tmp_path, "a", photo=f"{{}}_{track}.png")
        write_scene(tmp_path, "b", photo=f"{{}}_{track}.png")
    with pytest.raises(
        InputError, match=r"two photos of scene a, a_camera.png and a_clean.png; .* such as \*_clean.png"
    ):
        opened(tmp_path)
    for photos in ("photos/*_clean.png", str(tmp_path / "photos" / "*_clean.png")):
        assert opened(tmp_path, photos=photos).train.names == ("a",)
    elsewhere = {"photos": str(tmp_path / "photos" / "*_clean.png"), "cubes": str(tmp_path / "cubes")}
    assert open_dataset(DataConfig(name="folder", **elsewhere)).train.names == ("a",)
    with pytest.raises(
        InputError,
        match=r"data.cubes nowhere/x: .*nowhere does not exist; expected a folder or .* \(relative to data.root",
    ):
        opened(tmp_path, cubes="nowhere/x")


def test_tiff_is_a_photo_or_a_cube_by_its_folder(tmp_path):
    cube, codes = write_scene(tmp_path, "a", cube="{}.tif", photo="{}.tif", cubes="hsi", photos="rgb")
    write_scene(tmp_path, "b", cube="{}.tif", photo="{}.tif", cubes="hsi", photos="rgb")
    with pytest.raises(InputError, match=r"no cubes; .*TIFF files may be photos or cubes: name the folders"):
        opened(tmp_path)
    dataset = opened(tmp_path, photos="rgb", cubes="hsi")
    scenes = {source.names[0]: source[0] for source in (dataset.train, dataset.valid)}
    np.testing.assert_array_equal(scenes["a"].cube, cube)
    np.testing.assert_array_equal(scenes["a"].rgb, codes / np.float32(255))


def test_files_without_a_partner_are_named(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path, name)
    (tmp_path / "photos" / "a.png").unlink()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "photos" / "other.png")
    notes = opened(tmp_path).notes
    assert notes[1:] == (
        "left out, no cube of the same name: other.png",
        "left out, no photo of the same name: a.mat",
    )
    for photo in (tmp_path / "photos").iterdir():
        photo.rename(photo.with_name(f"x{photo.name}"))
    with pytest.raises(
        InputError, match="no photo has the name of a cube; found photos xbb, xccc, xother and cubes a, bb"
    ):
        opened(tmp_path)


def test_without_photos_a_camera_renders_them(tmp_path):
    nm = np.arange(400.0, 701.0, 20)
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path, name, nm=nm)
    with_photos = opened(tmp_path)
    rendered = opened(tmp_path, camera="cie1964")
    assert rendered.train.camera_name == "cie1964"
    assert rendered.train.fingerprint() != with_photos.train.fingerprint()
    for photo in (tmp_path / "photos").iterdir():
        photo.unlink()
    alone = opened(tmp_path)
    assert f"{tmp_path}/photos has no file that is read as a photo: cie1964 renders photos of the cubes" in alone.notes
    assert alone.train.fingerprint() == rendered.train.fingerprint()
    np.testing.assert_array_equal(alone.train[0].rgb, rendered.train[0].rgb)
    assert alone.train[0].rgb.std() > 0


@pytest.mark.parametrize("photos", ["fotos", "photos/*_clean.png", "empty"])
def test_photos_that_are_named_and_not_there_are_not_replaced_by_those_of_a_camera(tmp_path, photos):
    nm = np.arange(400.0, 701.0, 20)
    for name in ("a", "bb"):
        write_scene(tmp_path, name, nm=nm)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"data\.photos {re.escape(photos)}: found no photos there; .*camera"):
        opened(tmp_path, photos=photos)
    assert opened(tmp_path, photos=photos, camera="cie1964").train.camera_name == "cie1964"


def test_names_that_are_not_unicode_are_names(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path, name)
    latin = os.fsdecode(b"bl\xe4tter")
    for folder, suffix in (("photos", ".png"), ("cubes", ".mat")):
        (tmp_path / folder / f"a{suffix}").rename(tmp_path / folder / f"{latin}{suffix}")
    dataset = opened(tmp_path)
    assert sorted(dataset.train.names + dataset.valid.names) == sorted([latin, "bb", "ccc"])
    assert len(dataset.train.fingerprint()) == len("folder-") + 16
    assert prepare(dataset, tmp_path / "store") == 3
    assert open_dataset(DataConfig(name="folder", root=str(tmp_path / "store"))).train.names == dataset.train.names


def test_without_a_root_photos_are_not_searched_for(tmp_path, monkeypatch):
    nm = np.arange(400.0, 701.0, 20)
    for name in ("a", "bb"):
        write_scene(tmp_path / "own", name, nm=nm)
    (tmp_path / "here").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "here" / "holiday.png")
    monkeypatch.chdir(tmp_path / "here")
    cubes = str(tmp_path / "own" / "cubes")
    with pytest.raises(InputError, match=r"data.photos: found none, and no data.root .* \(--photos\), .* \(--camera\)"):
        open_dataset(DataConfig(name="folder", cubes=cubes))
    assert open_dataset(DataConfig(name="folder", cubes=cubes, camera="cie1964")).train.camera_name == "cie1964"
    with_photos = DataConfig(name="folder", cubes=cubes, photos=str(tmp_path / "own" / "photos"))
    assert open_dataset(with_photos).train.camera_name == "photos of the folder"


def test_the_half_widths_of_predicted_cubes_are_no_scenes(tmp_path):
    nm = np.arange(400.0, 701.0, 20)
    (tmp_path / "cubes").mkdir()
    for name in ("a.hdr", "a_interval.hdr", "b.tif", "b_interval.tif", "c_interval.hdr"):
        write_cube(tmp_path / "cubes" / name, make_cube(0, nm), nm)
    dataset = opened(tmp_path)
    assert sorted(dataset.train.names + dataset.valid.names) == ["a", "b", "c_interval"]


def test_a_changed_data_file_of_an_envi_cube_is_prepared_again(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path / "own", name, cube="{}.hdr")
    assert [prepare(opened(tmp_path / "own"), tmp_path / "store") for _ in range(2)] == [3, 0]
    (tmp_path / "own" / "cubes" / "bb.img").write_bytes(make_cube(9).tobytes())
    assert prepare(opened(tmp_path / "own"), tmp_path / "store") == 1


def test_key_wavelengths_and_white_describe_files_that_do_not(tmp_path):
    codes = np.random.default_rng(0).integers(1, 4096, (2, *SIZE, 16)).astype(np.uint16)
    (tmp_path / "cubes").mkdir()
    for name, values in zip("ab", codes, strict=True):
        scipy.io.savemat(tmp_path / "cubes" / f"{name}.mat", {"ref": values, "lbl": np.ones(SIZE)})
    fields = {"key": "ref", "wavelengths": "400:700:20", "white": 4095.0}
    dataset = opened(tmp_path, **fields)
    scenes = {source.names[0]: source[0] for source in (dataset.train, dataset.valid)}
    np.testing.assert_array_equal(scenes["a"].cube, codes[0] / np.float32(4095))
    np.testing.assert_array_equal(scenes["b"].wavelengths, np.arange(400.0, 701.0, 20))
    prints = {opened(tmp_path, **fields | change).train.fingerprint() for change in ({}, {"white": 4000.0})}
    prints |= {opened(tmp_path, **fields, rgb_normalization="minmax").train.fingerprint()}
    assert len(prints) == 3


def test_the_random_split_depends_on_seed_and_names_alone(tmp_path):
    names = [f"scene{number:02d}" for number in range(20)]
    first = random_choice(names, 4, seed=0)
    assert first == random_choice(reversed(names), 4, seed=0)
    assert first != random_choice(names, 4, seed=1)
    assert len(set(first) - set(random_choice([*names, "another"], 4, seed=0))) <= 1
    for name in names[:5]:
        write_scene(tmp_path, name)
    dataset = opened(tmp_path, split_seed=3, valid_fraction=0.4)
    assert list(dataset.valid.names) == random_choice(names[:5], 2, seed=3)
    assert dataset.notes == (
        f"split at random by data.split_seed 3: 2 of 5 held out, {', '.join(dataset.valid.names)}",
    )


def test_a_split_file_names_the_scenes(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path, name, photo="{}_rgb.png")
    split = tmp_path / "split.txt"
    split.write_text("[train]\na\nccc.mat\n[valid]\nbb_rgb.png\n")
    dataset = opened(tmp_path, split_file=str(split))
    assert (dataset.train.names, dataset.valid.names, dataset.notes) == (("a", "ccc"), ("bb",), ())
    split.write_text("a\n")  # the others are held out
    assert opened(tmp_path, split_file=str(split)).valid.names == ("bb", "ccc")
    split.write_text("[train]\na\n[valid]\ndddd\n")
    with pytest.raises(InputError, match="missing: scene dddd; found scenes: a, bb, ccc"):
        opened(tmp_path, split_file=str(split))


def test_all_scenes_may_be_held_out_where_nothing_is_trained(tmp_path):
    write_scene(tmp_path, "a")
    with pytest.raises(InputError, match="found a, too few to hold out 1 and train on the rest"):
        opened(tmp_path)
    config = DataConfig(name="folder", root=str(tmp_path), valid_fraction=1.0)
    dataset = open_dataset(config, required=["valid"])
    assert (len(dataset.train), dataset.valid.names) == (0, ("a",))


def test_scenes_of_other_bands_and_broken_files_are_faults(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path, name)
    write_scene(tmp_path, "dddd", nm=NM + 5)
    (tmp_path / "cubes" / "ccc.mat").write_bytes(b"404 not found")
    faults = []
    dataset = open_folder(DataConfig(name="folder", root=str(tmp_path)), faults=faults)
    assert sorted(dataset.train.names + dataset.valid.names) == ["a", "bb"]
    assert sorted(fault.partition(": ")[0].rpartition("/")[2] for fault in faults) == ["ccc.mat", "dddd.mat"]


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"found no cubes; expected files that end in \.hdr, \.tif"):
        opened(tmp_path)


def test_a_store_keeps_scenes_and_split(tmp_path):
    for name in ("a", "bb", "ccc"):
        write_scene(tmp_path / "own", name)
    dataset = opened(tmp_path / "own")
    prepare(dataset, tmp_path / "store")
    store = open_dataset(DataConfig(name="folder", root=str(tmp_path / "store")))
    assert (store.train.names, store.valid.names) == (dataset.train.names, dataset.valid.names)
    assert store.notes == ("scenes and split as prepared",)
    late = open_dataset(DataConfig(name="folder", root=str(tmp_path / "store"), white=2.0, split_seed=1))
    assert late.notes[1:] == (f"data.white, data.split_seed not used: {tmp_path / 'store'} was prepared before",)
    np.testing.assert_array_equal(store.valid[0].cube, dataset.valid[0].cube)


def test_its_fields_are_refused_with_other_data_sets():
    with pytest.raises(InputError, match=r'data\.key: found "rad", expected "" unless data.name is "folder"'):
        DataConfig(name="cave", key="rad")
    with pytest.raises(InputError, match=r"data\.valid_fraction: found 0"):
        DataConfig(name="folder", valid_fraction=0.0)
