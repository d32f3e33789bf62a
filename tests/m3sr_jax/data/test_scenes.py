import os
import pickle
import threading

import numpy as np
import pytest

from m3sr_jax.data.scenes import CodedScene, compact, decode, files_key, report_faults
from m3sr_jax.errors import InputError


def test_decode_maps_the_largest_code_to_one():
    assert decode(np.full((1, 1, 3), 255, np.uint8)).max() == 1
    assert decode(np.full((1, 1, 3), 65535, np.uint16)).max() == 1
    np.testing.assert_array_equal(decode(np.array([[[51]]], np.uint8)), np.float32(51) / np.float32(255))


def test_window_is_the_part_of_the_scene_it_says(make_source):
    source, _ = make_source([(7, 9), (8, 8)])
    whole, part = source[0], source.window(0, 2, 3, 4, 5)
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


def test_faults_are_collected_or_the_first_is_raised():
    errors, faults = [InputError("a.mat: damaged"), InputError("b.mat: damaged")], []
    report_faults(errors, faults)
    assert faults == ["a.mat: damaged", "b.mat: damaged"]
    report_faults([], None)
    with pytest.raises(InputError, match=r"^a\.mat: damaged \(and 1 more; `m3sr check` lists all\)$"):
        report_faults(errors, None)


def test_float16_keeps_negative_values():
    cube = np.array([[[-0.25, 1e-3, 3.0]]], np.float32)
    scene = CodedScene("x", np.zeros((1, 1, 3), np.uint8), cube, unit=1.0)
    np.testing.assert_allclose(
        compact(scene, "float16").decoded(np.array([400.0, 500.0, 600.0])).cube, cube, rtol=2**-11
    )
    with pytest.raises(
        InputError, match=r"scene x: values down to -0\.25 do not fit uint16; prepare with --dtype float16"
    ):
        compact(scene, "uint16")
    with pytest.raises(InputError, match="found values up to 300000, too large for float16"):
        compact(CodedScene("x", scene.rgb, cube * 1e5, unit=1.0), "float16")


def test_integer_codes_stay_as_they_are():
    codes = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    scene = CodedScene("x", np.zeros((1, 2, 3), np.uint8), codes)
    assert compact(scene, "uint16") is scene


def test_a_scenes_key_changes_with_names_sizes_and_camera(tmp_path):
    for name in ("a.mat", "b.mat"):
        (tmp_path / name).write_bytes(b"1234")
    key = files_key("cie1964", [tmp_path / "a.mat"])
    assert key == "cie1964 a.mat 4"
    assert key not in (files_key("other", [tmp_path / "a.mat"]), files_key("cie1964", [tmp_path / "b.mat"]))
    timed = files_key("cie1964", [tmp_path / "a.mat"], times=True)
    os.utime(tmp_path / "a.mat", ns=(1, 1))
    assert files_key("cie1964", [tmp_path / "a.mat"]) == key
    assert files_key("cie1964", [tmp_path / "a.mat"], times=True) == f"{key} 1" != timed
    (tmp_path / "a.mat").write_bytes(b"12345")
    assert files_key("cie1964", [tmp_path / "a.mat"]) != key
