"""Prepared stores: exact where promised, written whole or not at all, with the same crops as from the files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from m3sr_jax.config import DataConfig
from m3sr_jax.data.check import check_scenes
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.pipeline import train_batches
from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.data.store import open_store, prepare
from m3sr_jax.errors import InputError
from tests.m3sr_jax.data import arad_folder as arad

NM = np.arange(400.0, 701.0, 10.0)
# Half a code of 16 bits, and float32's own rounding of a value near 1.
HALF_A_CODE = 0.5 / 65535 + 2**-23


class Reader:
    """Float cubes whose largest value is not 1, photos stretched per image."""

    def __init__(self, part):
        self.part = part
        self.reads = 0

    def __call__(self, index):
        self.reads += 1
        rng = np.random.default_rng([index, len(self.part)])
        cube = rng.random((24, 20, 31), np.float32) * np.float32(0.6) + np.float32(1e-3)
        cube[0, 0, 0] = 1e-7
        rgb = rng.integers(10, 200, (24, 20, 3)).astype(np.uint8)
        return CodedScene(f"{self.part}{index}", rgb, cube, (int(rgb.min()), int(rgb.max())), unit=1.0)


def make_part(part, count):
    names = [f"{part}{i}" for i in range(count)]
    fields = {"wavelengths": NM, "camera_name": "camera", "fingerprint": part, "rgb_normalization": "minmax"}
    return SceneSource(names, [(24, 20)] * count, Reader(part), **fields)


@pytest.fixture
def dataset():
    return Dataset("ntire2022", make_part("train", 4), make_part("valid", 2), missing=("scene x",))


@pytest.fixture
def store(dataset, tmp_path):
    prepare(dataset, tmp_path / "store")
    return tmp_path / "store"


def test_training_scenes_are_within_half_a_code_and_held_out_ones_exact(dataset, store):
    opened = open_dataset(DataConfig(name="ntire2022", root=str(store)))
    assert opened.missing == dataset.missing
    for ours, theirs in ((opened.train, dataset.train), (opened.valid, dataset.valid)):
        assert ours.names == theirs.names
        assert (ours.rgb_normalization, ours.camera_name) == ("minmax", "camera")
        np.testing.assert_array_equal(ours.wavelengths, NM)
        for scene, original in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(scene.rgb, original.rgb)
            errors = np.abs(scene.cube - original.cube)
            assert errors[1:].max() <= (HALF_A_CODE * original.cube.max() if ours is opened.train else 0)
            assert 0 < scene.cube[0, 0, 0] <= 1 / 65535  # no positive value becomes zero


def test_batches_are_those_of_the_files(dataset, store):
    options = {"batch_size": 6, "crop_size": 16, "seed": 5}
    ours, theirs = (
        train_batches(source, **options) for source in (open_store(store, "ntire2022").train, dataset.train)
    )
    for _ in range(3):
        mine, expected = next(ours), next(theirs)
        np.testing.assert_array_equal(mine["rgb"], expected["rgb"])
        np.testing.assert_allclose(mine["cube"], expected["cube"], atol=2 * HALF_A_CODE)
    state = ours.get_state()
    following = next(ours)
    ours.set_state(state)
    np.testing.assert_array_equal(next(ours)["cube"], following["cube"])


def test_no_crop_keeps_a_map_of_the_file_open(store):
    source = open_store(store, "ntire2022").train
    for index in range(4):
        source.window(index, 0, 0, 8, 8)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc here to count maps in")
    assert sum(f"{store}/scenes" in line and "cube.npy" in line for line in maps.read_text().splitlines()) <= 1


def test_an_interrupted_preparation_resumes(dataset, tmp_path):
    store = tmp_path / "store"

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, store, progress=stop)
    with pytest.raises(InputError, match="unfinished store; run the same `m3sr prepare` again"):
        open_store(store, "ntire2022")
    (store / "scenes" / ".begun").mkdir()  # as a killed process leaves it
    assert prepare(dataset, store) == 3
    assert dataset.train.read.reads == 4
    assert prepare(dataset, store) == 0
    assert prepare(dataset, store, precision="float16") == 4  # another precision: written again
    assert not list(store.rglob(".*"))


def test_changed_bytes_are_detected(store):
    path = store / "scenes" / "train2" / "cube.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    dataset = open_store(store, "ntire2022")
    findings = check_scenes(dataset, [])
    assert not findings.complete
    (fault,) = findings.faults
    assert "train2/cube.npy: its bytes have changed" in fault
    path.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"cube\.npy: found \d+ bytes; expected \d+ for uint16"):
        dataset.train[2]


def test_preparing_again_mends_arrays_that_are_cut_off_or_gone(dataset, store):
    cut, gone = store / "scenes" / "train1" / "cube.npy", store / "scenes" / "valid0" / "rgb.npy"
    before = {path: path.read_bytes() for path in (cut, gone)}
    os.truncate(cut, 1000)
    gone.unlink()
    with pytest.raises(InputError, match=r"cube\.npy: found 1000 bytes; .* prepare it again$"):
        open_store(store, "ntire2022").train[1]
    assert prepare(dataset, store) == 2
    assert {path: path.read_bytes() for path in before} == before


def test_a_store_for_another_purpose_is_refused(store, tmp_path):
    with pytest.raises(InputError, match=r"holds ntire2022, but data\.name is cave"):
        open_dataset(DataConfig(name="cave", root=str(store)))
    with pytest.raises(InputError, match="found photos of camera; expected those of cie1964"):
        open_store(store, "ntire2022", camera="cie1964")
    (store / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a store's manifest"):
        open_store(store, "ntire2022")


def test_a_split_file_divides_the_prepared_scenes_again(store, tmp_path):
    (tmp_path / "split.txt").write_text("[train]\nvalid0\ntrain1\n[valid]\ntrain0\n")
    dataset = open_store(store, "ntire2022", split_file=tmp_path / "split.txt")
    assert (dataset.train.names, dataset.valid.names) == (("valid0", "train1"), ("train0",))
    assert [scene.name for scene in dataset.train] == ["valid0", "train1"]


def test_a_folder_of_something_else_is_left_alone(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something other than a store"):
        prepare(dataset, tmp_path)


def test_a_store_of_another_data_set_or_of_other_scenes_is_left_alone(dataset, store):
    before = (store / "manifest.json").read_text()
    with pytest.raises(InputError, match="holds a store of ntire2022; expected one of cave: choose another folder"):
        prepare(Dataset("cave", dataset.train, dataset.valid), store)
    fewer = Dataset("ntire2022", make_part("train", 2), dataset.valid)
    with pytest.raises(InputError, match="holds scenes that this selection of ntire2022 lacks, train2, train3; choose"):
        prepare(fewer, store)
    assert (store / "manifest.json").read_text() == before
    assert prepare(Dataset("ntire2022", make_part("train", 5), dataset.valid), store) == 1
    (store / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(InputError, match=r"cannot be read as a store's manifest; choose another folder"):
        prepare(dataset, store)


def test_a_store_of_other_bands_is_left_alone(dataset, store):
    before = (store / "manifest.json").read_text()
    for part in (dataset.train, dataset.valid):
        part.wavelengths = NM + 20
    with pytest.raises(InputError, match="holds 31 bands of 400-700 nm; expected 31 of 420-720 nm: choose another"):
        prepare(dataset, store)
    assert (store / "manifest.json").read_text() == before


def test_a_corrected_file_of_the_same_size_is_prepared_again(tmp_path):
    cubes = arad.ntire2022(tmp_path / "download")

    def opened():
        return open_dataset(DataConfig(name="ntire2022", root=str(tmp_path / "download")))

    prints = opened().train.fingerprint()
    assert [prepare(opened(), tmp_path / "store") for _ in range(2)] == [4, 0]
    path = tmp_path / "download" / "Train_Spec" / "ARAD_1K_0002.mat"
    size = path.stat().st_size
    arad.write_v73(path, cubes["ARAD_1K_0002"][::-1])
    os.utime(path, ns=(1, 1))  # restored from an archive: older than the store
    assert path.stat().st_size == size
    assert prepare(opened(), tmp_path / "store") == 1
    corrected = open_store(tmp_path / "store", "ntire2022").train[1].cube
    np.testing.assert_allclose(corrected, cubes["ARAD_1K_0002"][::-1], atol=HALF_A_CODE)
    assert opened().train.fingerprint() == prints  # a run resumes with files that were copied or touched


def test_a_store_keeps_its_camera_by_its_curves(tmp_path, write_cave_scene):
    for name in ("beads", "clay"):
        write_cave_scene(tmp_path / "download", name)
    (tmp_path / "split.txt").write_text("[train]\nbeads\n[valid]\nclay\n")
    for folder, green, comment in (("a", 1, ""), ("b", 2, ""), ("c", 1, "# the same curves")):
        (tmp_path / folder).mkdir()
        rows = (comment, "nm,R,G,B", "390,0,0,0", f"500,1,{green},3", "600,2,1,1", "710,0,0,0")
        (tmp_path / folder / "nikon.csv").write_text("\n".join(rows))
    a, b, c = (str(tmp_path / folder / "nikon.csv") for folder in "abc")
    config = DataConfig(name="cave", root=str(tmp_path / "download"), split_file=str(tmp_path / "split.txt"), camera=a)
    store = tmp_path / "store"
    prepare(open_dataset(config), store)
    for camera in (a, c, ""):
        assert open_store(store, "cave", camera=camera).train.camera_name == "nikon"
    with pytest.raises(InputError, match=r"found photos of another nikon; expected those of .*b/nikon\.csv: prepare"):
        open_store(store, "cave", camera=b)
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["camera_matrix"]  # as earlier versions wrote it
    (store / "manifest.json").write_text(json.dumps(manifest))
    assert open_store(store, "cave", camera=b).train.camera_name == "nikon"
    (store / "manifest.json").write_text(json.dumps(manifest | {"camera_matrix": [[1.0, 2.0]]}))
    with pytest.raises(InputError, match="cannot be read as a store's manifest"):
        open_store(store, "cave")


def test_the_manifest_holds_checksums_and_sizes(store):
    manifest = json.loads((store / "manifest.json").read_text())
    record = manifest["train"][0]
    assert (record["name"], record["size"], record["dtype"]) == ("train0", [24, 20], "uint16")
    assert all(len(record["sha256"][name]) == 64 for name in ("rgb.npy", "cube.npy"))
    assert manifest["valid"][0]["dtype"] == "float32"


@pytest.mark.parametrize("found", [0, 2, 1.5, "1", True, None])
def test_a_store_of_another_format_is_refused_by_name(store, found):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"format": found}))
    message = rf"manifest\.json: found a store of format {json.dumps(found)}, expected 1; run"
    with pytest.raises(InputError, match=message):
        open_store(store, "ntire2022")
