"""Prepared stores: exact where promised, written whole or not at all, with the same crops as from the files."""

import json
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

    def stop(done, total, name):
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
