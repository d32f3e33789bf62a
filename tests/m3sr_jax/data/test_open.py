"""Every data set opens by its configuration."""

import dataclasses

import pytest

from m3sr_jax.config import DataConfig
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.store import prepare
from m3sr_jax.errors import InputError
from tests.m3sr_jax.data import arad_folder as arad


def test_unknown_names_are_refused():
    config = DataConfig()
    object.__setattr__(config, "name", "imagenet")  # DataConfig itself refuses the name
    with pytest.raises(InputError, match='"imagenet"; expected one of synthetic, cave, ntire2022, ntire2020_clean'):
        open_dataset(config)


def test_the_configuration_is_applied(tmp_path, write_cave_scene):
    fields = {"root": str(tmp_path), "split_file": "", "camera": "cie1964"}
    fields |= {"num_train_scenes": 2, "num_valid_scenes": 1, "scene_size": 32, "crop_size": 32}
    made = open_dataset(DataConfig(name="synthetic", **fields))
    assert (len(made.train), len(made.valid), made.train.size(1)) == (2, 1, (32, 32))
    for name in ("beads", "clay"):
        write_cave_scene(tmp_path, name)
    (tmp_path / "split.txt").write_text("[train]\nbeads\n[valid]\nclay\n")
    cave = open_dataset(DataConfig(name="cave", **fields | {"split_file": str(tmp_path / "split.txt")}))
    assert (cave.name, cave.train.names, cave.valid.names) == ("cave", ("beads",), ("clay",))


def test_fields_that_a_data_set_does_not_use_are_refused_or_noted(tmp_path, write_cave_scene):
    with pytest.raises(InputError, match=r'data\.split_file: found "a.txt", expected "" with data\.name synthetic'):
        DataConfig(name="synthetic", split_file="a.txt")
    with pytest.raises(InputError, match=r'data\.camera: found "cie1964", expected "" with data\.name photo'):
        DataConfig(name="photo", camera="cie1964")
    for name in ("beads", "clay"):
        write_cave_scene(tmp_path / "download", name)
    config = DataConfig(name="cave", root=str(tmp_path / "download"), num_train_scenes=3, scene_size=512)
    noted = "data.num_train_scenes, data.scene_size not used: cave has scenes of its own"
    assert open_dataset(config).notes == (noted,)
    prepare(open_dataset(config), tmp_path / "store")
    assert open_dataset(dataclasses.replace(config, root=str(tmp_path / "store"))).notes == (noted,)


@pytest.mark.parametrize(
    ("name", "camera", "expected"),
    [
        ("ntire2020_clean", "", "NTIRE 2020 Clean photos"),
        ("ntire2020_real", "", "NTIRE 2020 Real World photos"),
        ("ntire2020_real", "cie1964", "cie1964"),
    ],
)
def test_a_benchmark_has_its_own_photos_unless_a_camera_is_set(tmp_path, name, camera, expected):
    arad.ntire2020(tmp_path)
    dataset = open_dataset(DataConfig(name=name, root=str(tmp_path), camera=camera))
    assert (dataset.name, dataset.train.camera_name) == (name, expected)


def test_without_a_root_the_data_are_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("M3SR_DATA", raising=False)
    told = (
        r'data.root "data/ntire2022": no such folder; expected NTIRE 2022 \(ARAD_1K\) there: the cubes ARAD_1K_0001.mat'
    )
    with pytest.raises(InputError, match=told + r".*docs/data.md.*M3SR_DATA.*--data-root DIR"):
        open_dataset(DataConfig(name="ntire2022"))
    arad.ntire2022(tmp_path / "data" / "ntire2022")
    assert len(open_dataset(DataConfig(name="ntire2022")).train) == 3
    monkeypatch.setenv("M3SR_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(
        InputError, match=r"elsewhere/cave.*: no such folder; expected CAVE there: the folders beads_ms"
    ):
        open_dataset(DataConfig(name="cave"))
    prepare(open_dataset(DataConfig(name="ntire2022", root="data/ntire2022")), tmp_path / "elsewhere" / "ntire2022")
    assert len(open_dataset(DataConfig(name="ntire2022")).train) == 3


@pytest.mark.parametrize("name", ["ntire2022", "cave"])
def test_scenes_with_names_of_their_own_are_sent_to_the_folder_data_set(tmp_path, name):
    with pytest.raises(InputError, match=r'scenes with names of your own are the data set "folder" \(docs/data.md\)'):
        open_dataset(DataConfig(name=name, root=str(tmp_path)))


def test_a_folder_with_a_manifest_is_a_store(tmp_path):
    arad.ntire2022(tmp_path / "download")
    prepare(open_dataset(DataConfig(name="ntire2022", root=str(tmp_path / "download"))), tmp_path / "store")
    (tmp_path / "split.txt").write_text("[train]\nARAD_1K_0002\n[valid]\nARAD_1K_0001\n")
    fields = {"root": str(tmp_path / "store"), "split_file": str(tmp_path / "split.txt")}
    dataset = open_dataset(DataConfig(name="ntire2022", **fields))
    assert (dataset.train.names, dataset.valid.names) == (("ARAD_1K_0002",), ("ARAD_1K_0001",))


def test_faults_are_collected_and_their_scenes_left_out(tmp_path):
    arad.ntire2022(tmp_path)
    (tmp_path / "Train_Spec" / "ARAD_1K_0002.mat").write_bytes(b"404 not found")
    faults = []
    dataset = open_dataset(DataConfig(name="ntire2022", root=str(tmp_path)), faults)
    assert dataset.train.names == ("ARAD_1K_0001", "ARAD_1K_0003")
    assert len(faults) == 1
    assert "ARAD_1K_0002.mat: cannot be read" in faults[0]
