"""A check reads every scene, and reports the unusable and the suspicious ones."""

import h5py
import numpy as np
import pytest

from m3sr_jax.config import DataConfig
from m3sr_jax.data.camera import load_camera, quantise
from m3sr_jax.data.check import check_scenes, first_oddities, likeness
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.photo.scenes import PhotoSpec, open_photo
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.errors import InputError
from tests.m3sr_jax.data import arad_folder as arad

NM = np.array([500.0, 600.0])
SIZE = (4, 5)


def good_cube():
    return np.linspace(0.1, 0.9, 40, dtype=np.float32).reshape(*SIZE, 2)


def good_photo():
    return np.arange(60, dtype=np.uint8).reshape(*SIZE, 3)


def source_of(*scenes):
    """A source whose scenes are CodedScene or the InputError that reading them raises."""

    def read(index):
        if isinstance(scenes[index], InputError):
            raise scenes[index]
        return scenes[index]

    names = [f"scene{index}" for index in range(len(scenes))]
    return SceneSource(
        names, [SIZE] * len(scenes), read, wavelengths=NM, camera_name="camera", fingerprint="x", cache_bytes=0
    )


def scene(cube=None, rgb=None, unit=1.0):
    return CodedScene("name", good_photo() if rgb is None else rgb, good_cube() if cube is None else cube, unit=unit)


def findings_of(*scenes, **options):
    return check_scenes(Dataset("cave", source_of(*scenes), source_of(scene())), [], **options)


def test_good_scenes_bring_no_findings():
    findings = findings_of(scene(), scene())
    assert findings.complete
    assert (findings.faults, findings.oddities) == ([], {})


@pytest.mark.parametrize(
    ("change", "oddity"),
    [
        ({"cube": np.where(good_cube() < 0.2, 0, good_cube()).astype(np.float32)}, "zeros in the cube"),
        ({"cube": good_cube() - np.float32(0.2)}, "negative values in the cube"),
        ({"cube": good_cube() * np.float32(2)}, "values above 1 in the cube"),
        ({"cube": good_cube() * np.float32(1e-3)}, "a dark cube"),
        ({"rgb": np.full((*SIZE, 3), 7, np.uint8)}, "a photo with all values equal"),
        ({"rgb": good_photo()[..., :1].repeat(3, -1)}, "photo is grey"),
        ({"rgb": good_photo()[::-1]}, "photo and cube do not show the same picture"),
    ],
)
def test_suspicious_scenes_are_named_once_and_are_no_fault(change, oddity):
    findings = findings_of(scene(), scene(**change))
    assert findings.complete
    ((description, names),) = findings.oddities.items()
    assert description.startswith(oddity)
    assert names == ["name"]


def test_codes_count_as_their_values():
    codes = np.rint(good_cube() * 65535).astype(np.uint16)
    assert findings_of(scene(codes, unit=65535.0)).oddities == {}
    (description,) = findings_of(scene(codes, unit=20000.0)).oddities
    assert description.startswith("values above 1")


def test_unusable_scenes_are_faults_and_the_rest_is_still_read():
    narrow = CodedScene("narrow", good_photo()[:, :4], good_cube()[:, :4], unit=1.0)
    steps = []
    findings = findings_of(
        InputError("a.mat: damaged"), narrow, scene(), progress=lambda done, total: steps.append((done, total))
    )
    assert not findings.complete
    assert findings.faults == [
        "a.mat: damaged",
        "scene narrow: found a photo of 4×4 and a cube of 4×4 pixels; expected 4×5 as in the headers",
    ]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_missing_files_and_faults_of_opening_are_kept():
    dataset = Dataset("cave", source_of(scene()), source_of(scene()), missing=("scene x",))
    findings = check_scenes(dataset, ["b.mat: damaged"])
    assert (findings.missing, findings.faults, findings.complete) == (("scene x",), ["b.mat: damaged"], False)


def test_headers_only_reads_no_scene():
    assert findings_of(InputError("never read"), headers_only=True).faults == []


def test_of_unscaled_cubes_the_largest_value_and_the_remedy_are_told():
    percent = findings_of(scene(good_cube() * np.float32(100)))
    assert percent.advice == ["largest 90: pass --white 100 (data.white); for a store, to m3sr prepare"]
    assert findings_of(scene(good_cube() * np.float32(2))).advice == []  # may be highlights


def test_the_first_scene_alone_is_read_before_a_run():
    unscaled = scene(np.rint(good_cube() * 4500))
    assert first_oddities(source_of(unscaled, InputError("never read"))) == [
        "scene scene0: values above 1 in the cube, which PSNR clips; largest 4050: pass --white 4095 (data.white); "
        "for a store, to m3sr prepare"
    ]
    zeros = scene(np.where(good_cube() < 0.2, 0, good_cube()).astype(np.float32))
    for quiet in (scene(), zeros, InputError("told where it is used")):
        assert first_oddities(source_of(quiet)) == []
    assert first_oddities(source_of()) == []


def test_good_data_sets_bring_no_warning(synthetic, tmp_path, write_cave_scene):
    opened = [synthetic, open_photo(PhotoSpec(1, 1, 32, 32), tmp_path)]
    arad.ntire2022(tmp_path / "arad")
    write_cave_scene(tmp_path / "cave", "beads")
    write_cave_scene(tmp_path / "cave", "clay")
    (tmp_path / "split.txt").write_text("[train]\nbeads\n[valid]\nclay\n")
    fields = {"cave": {"split_file": str(tmp_path / "split.txt")}, "ntire2022": {}}
    for name, root in (("cave", "cave"), ("ntire2022", "arad")):
        opened.append(open_dataset(DataConfig(name=name, root=str(tmp_path / root), **fields[name])))
    for dataset in opened:
        assert first_oddities(dataset.train) + first_oddities(dataset.valid) == []


def test_a_photo_is_compared_with_the_visible_bands():
    dark_leaves = np.concatenate([good_cube(), 1 - good_cube(), 1 - good_cube()], -1)
    nm = np.array([500.0, 600.0, 800.0, 810.0, 820.0, 830.0])
    assert likeness(scene(dark_leaves), nm) == pytest.approx(1, abs=1e-3)
    assert likeness(scene(dark_leaves), nm + 300) == 1  # none is visible
    assert likeness(scene(np.full_like(dark_leaves, 0.5)), nm) == 1  # constant


def test_real_pairs_are_alike_and_transposed_ones_are_not(data_dir):
    camera = load_camera("cie1964")
    with h5py.File(data_dir / "cave26_128.h5") as file:
        nm = file["wavelengths"][:].astype(float)
        for name in ("balloons_ms", "egyptian_statue_ms", "sponges_ms"):
            cube = file["cube"][name][:].transpose(1, 2, 0)
            photos = file["rgb_d65"][name][:], quantise(camera.render(cube / np.float32(65535), nm))
            for photo in photos:
                assert likeness(CodedScene(name, photo, cube), nm) > 0.9
                assert likeness(CodedScene(name, photo.swapaxes(0, 1), cube), nm) < 0.4
