import json
from collections import Counter

import numpy as np
import pytest

from m3sr_jax.data.pipeline import crop_table, steps_per_epoch, train_batches, turned
from m3sr_jax.errors import InputError


def first_batches(source, count, **options):
    batches = train_batches(source, **{"batch_size": 4, "crop_size": 16, "seed": 3} | options)
    found = [{key: np.array(value) for key, value in next(batches).items()} for _ in range(count)]
    batches.close()
    return found


def scenes_seen(batches):
    """Scene indices: pixels of the counting source hold 1000 · index + position, and positions stay below 1000."""
    return [round(float(crop.min()) * 65535) // 1000 for batch in batches for crop in batch["cube"]]


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a["rgb"], b["rgb"])
        np.testing.assert_array_equal(a["cube"], b["cube"])


def test_batches_have_the_promised_shape_type_and_range(synthetic):
    (batch,) = first_batches(synthetic.train, 1)
    assert batch["rgb"].shape == (4, 16, 16, 3)
    assert batch["cube"].shape == (4, 16, 16, 31)
    for values in batch.values():
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1


def test_the_seed_decides_the_batches(synthetic):
    once, again, other = (first_batches(synthetic.train, 3, seed=seed) for seed in (3, 3, 4))
    assert_equal(once, again)
    assert not np.array_equal(once[0]["cube"], other[0]["cube"])


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_restored_state_gives_the_identical_next_batch(synthetic, steps):
    options = {"batch_size": 3, "crop_size": 16, "seed": 7}
    running = train_batches(synthetic.train, **options)
    for _ in range(steps):
        next(running)
    state = json.loads(json.dumps(running.get_state()))
    restored = train_batches(synthetic.train, **options)
    restored.set_state(state)
    expected = [next(running) for _ in range(3)]
    assert_equal(expected, [next(restored) for _ in range(3)])
    running.set_state(state)  # an earlier state
    assert_equal(expected, [next(running) for _ in range(3)])


def test_worker_processes_give_the_same_batches_and_states(synthetic):
    expected = first_batches(synthetic.train, 3)
    assert_equal(expected[:2], first_batches(synthetic.train, 2, num_workers=1))
    batches = train_batches(synthetic.train, batch_size=4, crop_size=16, seed=3, num_workers=1)
    batches.set_state({"next_batch": 2})
    assert_equal(expected[2:], [{key: np.array(value) for key, value in next(batches).items()}])
    assert batches.get_state() == {"next_batch": 3}
    batches.close()


@pytest.mark.parametrize("hosts", [2, 3])
def test_the_shards_of_all_hosts_are_the_batches_of_one(synthetic, hosts):
    whole = first_batches(synthetic.train, 3, batch_size=6)
    parts = [first_batches(synthetic.train, 3, batch_size=6, shard_index=i, shard_count=hosts) for i in range(hosts)]
    assert all(part["rgb"].shape[0] == 6 // hosts for batches in parts for part in batches)
    joined = [{key: np.concatenate([part[key] for part in row]) for key in row[0]} for row in zip(*parts, strict=True)]
    assert_equal(whole, joined)


def test_workers_resume_a_hosts_shard(synthetic):
    options = {"batch_size": 4, "shard_index": 1, "shard_count": 2}
    expected = first_batches(synthetic.train, 3, **options)
    batches = train_batches(synthetic.train, crop_size=16, seed=3, num_workers=1, **options)
    batches.set_state({"next_batch": 2})
    assert_equal(expected[2:], [{key: np.array(value) for key, value in next(batches).items()}])
    batches.close()


def test_an_epoch_takes_every_scene_equally_often_in_a_new_order(make_source):
    source, _ = make_source([(20, 32)] * 6)  # two crops each
    order = scenes_seen(first_batches(source, 3, batch_size=12))
    epochs = [order[start : start + 12] for start in (0, 12, 24)]
    assert all(Counter(epoch) == dict.fromkeys(range(6), 2) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_may_be_larger_than_an_epoch(make_source):
    source, _ = make_source([(20, 20)] * 3)
    (batch,) = first_batches(source, 1, batch_size=8)
    assert batch["cube"].shape[0] == 8
    assert steps_per_epoch(source, 8, 16) == 1


def test_crops_reach_every_position_and_orientation(make_source):
    source, _ = make_source([(3, 3)])
    codes = {
        tuple(np.rint(crop[..., 0].ravel() * 65535).astype(int))
        for crop in first_batches(source, 1, batch_size=600, crop_size=2)[0]["cube"]
    }
    corners = {0, 1, 3, 4}
    assert {min(code) for code in codes} == corners
    assert len(codes) == 4 * 8


def test_rgb_and_cube_turn_together_and_bands_stay(make_source):
    source, _ = make_source([(15, 15)])  # codes below 256: rgb shows the same numbers as the cube
    (batch,) = first_batches(source, 1, batch_size=16, crop_size=8)
    np.testing.assert_array_equal(np.rint(batch["rgb"][..., 0] * 255), np.rint(batch["cube"][..., 0] * 65535))
    np.testing.assert_array_equal(batch["cube"][..., 0], batch["cube"][..., 3])


def test_a_mosaic_puts_together_the_crops_that_its_patch_size_gives_alone(synthetic):
    (mosaic,) = first_batches(synthetic.train, 1, batch_size=2, crop_size=16, patch_size=8)
    (crops,) = first_batches(synthetic.train, 1, batch_size=8, crop_size=8)
    for key in ("rgb", "cube"):
        for index, crop in enumerate(crops[key]):
            image, place = divmod(index, 4)
            top, left = (8 * step for step in divmod(place, 2))
            np.testing.assert_array_equal(mosaic[key][image, top : top + 8, left : left + 8], crop)


def test_the_shards_of_mosaics_are_those_of_one_host(synthetic):
    (whole,) = first_batches(synthetic.train, 1, patch_size=8)
    shards = [first_batches(synthetic.train, 1, patch_size=8, shard_index=i, shard_count=2)[0] for i in range(2)]
    np.testing.assert_array_equal(whole["cube"], np.concatenate([shard["cube"] for shard in shards]))


def test_an_epoch_of_mosaics_sees_as_many_pixels(make_source):
    source, _ = make_source([(32, 32)] * 3)
    assert steps_per_epoch(source, 1, 16, 8) == steps_per_epoch(source, 1, 16)


def test_turned_gives_the_eight_symmetries():
    pixels = np.arange(8).reshape(2, 2, 2)
    views = {turned(pixels, turns, flip).tobytes() for turns in range(4) for flip in (False, True)}
    assert len(views) == 8
    np.testing.assert_array_equal(turned(pixels, 1, False), np.rot90(pixels))


def test_epoch_counts_the_crops_that_fit_side_by_side(make_source):
    source, _ = make_source([(512, 512), (128, 300)])
    assert Counter(crop_table(source, 128)) == {0: 16, 1: 2}
    assert steps_per_epoch(source, 4, 128) == 4


def test_a_scene_smaller_than_the_crop_is_named(make_source):
    source, _ = make_source([(64, 64), (64, 30)])
    with pytest.raises(InputError, match=r"scene1 is 64×30 pixels, smaller than the 32×32 crop.*data\.crop_size"):
        train_batches(source, batch_size=2, crop_size=32, seed=0)


def test_a_batch_that_is_no_multiple_of_the_hosts_is_refused(make_source):
    source, _ = make_source([(64, 64)])
    with pytest.raises(InputError, match=r"data\.batch_size: found 3; expected a multiple of 2"):
        train_batches(source, batch_size=3, crop_size=32, seed=0, shard_count=2)
