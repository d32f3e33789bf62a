import pickle
import threading

import numpy as np
import pytest

from m3sr_jax.config import DataConfig
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.scenes import SceneSource, decode
from m3sr_jax.errors import InputError


def test_decode_maps_the_largest_code_to_one():
    assert decode(np.full((1, 1, 3), 255, np.uint8)).max() == 1
    assert decode(np.full((1, 1, 3), 65535, np.uint16)).max() == 1
    np.testing.assert_array_equal(decode(np.array([[[51]]], np.uint8)), np.float32(51) / np.float32(255))


def test_window_is_the_part_of_the_scene_it_says(make_source):
    source, _ = make_source([(7, 9), (8, 8)])
    whole, part = source[0], source.window(0, 2, 3, 4, 5)
    assert isinstance(source, SceneSource)
    assert part.cube.dtype == part.rgb.dtype == np.float32
    np.testing.assert_array_equal(part.cube, whole.cube[2:6, 3:8])
    np.testing.assert_array_equal(part.rgb, whole.rgb[2:6, 3:8])
    np.testing.assert_array_equal(whole.cube[..., 0] * 65535, np.arange(63).reshape(7, 9))


def test_indices_behave_like_those_of_a_list(make_source):
    source, _ = make_source([(7, 9), (8, 8)])
    assert source[-1].name == "scene1"
    assert [scene.name for scene in source] == ["scene0", "scene1"]


def test_cache_reads_once_and_stays_within_its_bound(make_source):
    sizes = [(10, 10)] * 4
    one = 100 * (3 + 4 * 2)
    source, reader = make_source(sizes, cache_bytes=2 * one)
    for index in (0, 1, 0, 1, 2, 1, 0):  # 2 pushes out 0, the one used longest ago
        source[index]
    assert reader.reads == [0, 1, 2, 0]


def test_scene_larger_than_the_bound_is_still_kept_once(make_source):
    source, reader = make_source([(10, 10)] * 2, cache_bytes=1)
    for index in (0, 0, 1, 1):
        source[index]
    assert reader.reads == [0, 1]


def test_threads_that_want_one_scene_share_one_read(make_source):
    source, reader = make_source([(200, 200)])
    threads = [threading.Thread(target=source.__getitem__, args=(0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.reads == [0]


def test_a_pickled_source_starts_with_an_empty_cache(synthetic):
    source = synthetic.train
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0].cube, source[0].cube)
    assert copy.fingerprint() == source.fingerprint()
    assert len(copy._cache) == 1
    assert len(pickle.dumps(source)) < 10_000  # what is in memory stays here


def test_open_dataset_refuses_unknown_names():
    config = DataConfig()
    object.__setattr__(config, "name", "imagenet")  # DataConfig itself refuses the name
    with pytest.raises(InputError, match='"imagenet"; expected one of synthetic, cave, ntire2022, ntire2020_clean'):
        open_dataset(config)


def test_open_dataset_reads_the_configuration(tmp_path, write_cave_scene):
    fields = {"root": str(tmp_path), "split_file": "", "camera": "cie1964"}
    fields |= {"num_train_scenes": 2, "num_valid_scenes": 1, "scene_size": 32, "crop_size": 32}
    made = open_dataset(DataConfig(name="synthetic", **fields))
    assert (len(made.train), len(made.valid), made.train.size(1)) == (2, 1, (32, 32))
    for name in ("beads", "clay"):
        write_cave_scene(tmp_path, name)
    (tmp_path / "split.txt").write_text("[train]\nbeads\n[valid]\nclay\n")
    cave = open_dataset(DataConfig(name="cave", **fields | {"split_file": str(tmp_path / "split.txt")}))
    assert (cave.name, cave.train.names, cave.valid.names) == ("cave", ("beads",), ("clay",))
