import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, write_cube
from m3sr_jax.io.cube_intervals import interval_files, is_interval, read_interval
from m3sr_jax.io.cube_writer import SUFFIXES, cube_writer

NM = np.arange(400.0, 701.0, 10.0)
SHAPE = (12, 9, 31)


@pytest.fixture
def cube():
    return np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_widths_are_read_back_beside_their_cube(tmp_path, cube, suffix, dtype):
    path, widths = tmp_path / f"a{suffix}", cube[::-1] / 4
    with cube_writer(path, SHAPE, NM, dtype, "a photo", interval=True) as append:
        append(cube[:5], widths[:5])
        append(cube[5:], widths[5:])
    atol = 0 if dtype == np.float32 else 0.51 / 65535
    np.testing.assert_allclose(read_cube(path)[0], cube, atol=atol)
    np.testing.assert_allclose(read_interval(path, SHAPE), widths, atol=atol)
    np.testing.assert_allclose(read_interval(path, SHAPE, 3), widths[1::3, 1::3], atol=atol)
    falling = ",".join(f"{nm:g}" for nm in NM[::-1])
    np.testing.assert_allclose(read_interval(path, SHAPE, 1, falling), widths[..., ::-1], atol=atol)
    names = {path.name, *(file.name for file in interval_files(path)), *(["a.img"] if suffix == ".hdr" else [])}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert len(names) == {".hdr": 4, ".tif": 2, ".tiff": 2}.get(suffix, 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_unfinished_cube_leaves_no_interval(tmp_path, cube, suffix):
    with (
        pytest.raises(ValueError, match="5 of 12 rows"),
        cube_writer(tmp_path / f"a{suffix}", SHAPE, NM, np.float32, interval=True) as append,
    ):
        append(cube[:5], cube[:5])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cube_alone_has_no_interval(tmp_path, cube, suffix):
    write_cube(tmp_path / f"a{suffix}", cube, NM)
    assert read_interval(tmp_path / f"a{suffix}", SHAPE) is None


def test_the_interval_of_an_envi_cube_is_found_by_its_data_file(tmp_path, cube):
    with cube_writer(tmp_path / "a.img", SHAPE, NM, np.float32, interval=True) as append:
        append(cube, cube / 2)
    np.testing.assert_array_equal(read_interval(tmp_path / "a.img", SHAPE), cube / 2)


def test_a_cube_is_the_interval_of_the_one_beside_it(tmp_path):
    for name in ("a.hdr", "a_interval.hdr", "b_interval.tif", "c.mat", "c_interval.mat", "_interval.tif"):
        (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir() if is_interval(path)] == ["a_interval.hdr"]


def test_the_interval_of_another_cube_is_refused(tmp_path, cube):
    write_cube(tmp_path / "a.tif", cube, NM)
    write_cube(tmp_path / "a_interval.tif", cube[:4], NM)
    with pytest.raises(InputError, match=r"a_interval.tif: found \(4, 9, 31\); expected \(12, 9, 31\) as in a.tif"):
        read_interval(tmp_path / "a.tif", SHAPE)
    np.savez(tmp_path / "a.npz", cube=cube, wavelengths=NM, interval=np.arange(3.0))  # another tool's array
    assert read_interval(tmp_path / "a.npz", SHAPE) is None
