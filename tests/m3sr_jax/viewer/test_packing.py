"""Cubes packed as text, read back by a plain unpacker."""

import base64
import zlib

import numpy as np
import pytest

from m3sr_jax.viewer import packing
from m3sr_jax.viewer.packing import MAX_LEVELS, MIN_LEVELS, decimation, encode, fit_scale, pack, pack_cubes


def unpack(text, shape):
    """Unpacks codes (S, H, W): bytes to zigzag to differences to codes."""
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(np.int64)
    zigzag = low + 256 * high
    delta = np.where(zigzag % 2, -(zigzag // 2) - 1, zigzag // 2).reshape(shape)
    return np.cumsum(np.cumsum(delta, axis=0), axis=2) % 2**16


def decode(codes, scale):
    return np.where(codes == 0, np.nan, scale.offset + (codes - 1.0) * scale.step).transpose(1, 2, 0)


@pytest.fixture
def cube():
    return np.random.default_rng(0).uniform(-0.2, 1.3, (9, 13, 5)).astype(np.float32)


def test_codes_survive_unchanged():
    codes = np.random.default_rng(1).integers(0, 2**16, (4, 7, 11), np.uint16)
    codes[1], codes[2, 0] = 0, 65535
    np.testing.assert_array_equal(unpack(pack(codes), codes.shape), codes)


def test_values_are_within_half_a_step_and_missing_ones_stay_missing(cube):
    cube[2:4, 5, 1:3] = np.nan
    cube[0, 0, 0], cube[1, 1, 1] = np.inf, -np.inf
    packed = pack_cubes([cube])
    back = decode(unpack(packed.texts[0], (5, 9, 13)), packed.scale)
    finite = np.isfinite(cube)
    assert packed.missing == 6
    np.testing.assert_array_equal(np.isnan(back), ~finite)
    assert packed.scale.step == pytest.approx((cube[finite].max() - cube[finite].min()) / 65534, rel=1e-6)
    assert np.abs(back - cube)[finite].max() <= packed.scale.step * 0.5001  # rounding of the division itself


def test_a_cube_and_its_truth_share_one_scale(cube):
    packed = pack_cubes([cube, cube - 0.5])
    first, second = (decode(unpack(text, (5, 9, 13)), packed.scale) for text in packed.texts)
    assert np.abs(first - second - 0.5).max() <= packed.scale.step * 1.001


@pytest.mark.parametrize("value", [0.25, np.nan])
def test_a_cube_of_one_value(value):
    cube = np.full((3, 4, 2), value, np.float32)
    packed = pack_cubes([cube])
    np.testing.assert_array_equal(decode(unpack(packed.texts[0], (2, 3, 4)), packed.scale), cube)


def test_codes_get_coarser_until_they_fit_the_budget(cube, monkeypatch):
    full = len(pack_cubes([cube]).texts[0])
    monkeypatch.setattr(packing, "TEXT_BUDGET", full * 9 // 10)
    packed = pack_cubes([cube])
    assert len(packed.texts[0]) <= full * 9 // 10
    assert MIN_LEVELS <= packed.scale.levels < MAX_LEVELS
    back = decode(unpack(packed.texts[0], (5, 9, 13)), packed.scale)
    assert np.abs(back - cube).max() <= packed.scale.step * 0.5001
    monkeypatch.setattr(packing, "TEXT_BUDGET", 1)
    assert pack_cubes([cube]).scale.levels == MIN_LEVELS


def test_pixels_are_decimated_not_averaged(cube, monkeypatch):
    monkeypatch.setattr(packing, "MAX_SAMPLES", cube.size // 5)
    packed = pack_cubes([cube])
    assert (packed.factor, packed.height, packed.width) == (3, 3, 4)
    back = decode(unpack(packed.texts[0], (5, 3, 4)), packed.scale)
    assert np.abs(back - cube[1::3, 1::3]).max() <= packed.scale.step * 0.5001


@pytest.mark.parametrize("shape", [(1, 117, 5), (117, 1, 5)])
def test_a_cube_of_one_line_keeps_it(cube, monkeypatch, shape):
    line = cube.reshape(shape)
    monkeypatch.setattr(packing, "MAX_SAMPLES", line.size // 5)
    packed = pack_cubes([line])
    assert packed.factor == 3
    assert sorted((packed.height, packed.width)) == [1, 39]
    back = decode(unpack(packed.texts[0], (5, packed.height, packed.width)), packed.scale)
    assert np.abs(back.reshape(39, 5) - line.reshape(117, 5)[1::3]).max() <= packed.scale.step * 0.5001


def test_common_sizes_are_decimated_as_little_as_possible():
    assert decimation(512 * 512 * 31) == 1
    assert decimation(2 * 512 * 512 * 31) == 1
    assert decimation(3000 * 4000 * 31) == 5


def test_the_highest_value_has_the_highest_code(cube):
    codes = encode(cube, fit_scale([cube], MAX_LEVELS))
    assert codes.min() == 1
    assert codes.max() == 65535
