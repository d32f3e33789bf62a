import os

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, write_cube
from m3sr_jax.io.cube_writer import cube_writer
from m3sr_jax.io.cubes import read_cube_header

WAVELENGTHS = np.arange(400.0, 701, 10)
SUFFIXES = [".mat", ".hdr", ".npz", ".tif", ".tiff", ".h5"]


@pytest.fixture
def cube():
    return np.random.default_rng(0).uniform(0, 1, (12, 17, 31)).astype(np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bands", [31, 1, 201])
def test_what_is_written_is_read_back(tmp_path, suffix, bands):
    cube = np.random.default_rng(0).uniform(-0.1, 1, (9, 11, bands)).astype(np.float32)
    wavelengths = np.linspace(397.25, 1003.5, bands)
    path = tmp_path / f"some.cube{suffix}"
    write_cube(path, cube, wavelengths)
    found, centres = read_cube(path)
    assert found.dtype == np.float32
    assert centres.dtype == np.float64
    np.testing.assert_array_equal(found, cube)
    np.testing.assert_allclose(centres, wavelengths, rtol=1e-5 if suffix == ".hdr" else 1e-12)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_size_cubes_that_are_not_square(tmp_path, suffix):
    cube = np.random.default_rng(0).uniform(0, 1, (482, 512, 31)).astype(np.float32)
    write_cube(tmp_path / f"big{suffix}", cube, WAVELENGTHS.astype(np.float32))
    np.testing.assert_array_equal(read_cube(tmp_path / f"big{suffix}")[0], cube)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, cube, suffix, monkeypatch):
    path = tmp_path / f"cube{suffix}"
    write_cube(path, cube, WAVELENGTHS)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr("m3sr_jax.io.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(InputError, match=r"cannot be written \(disk full\)"):
        write_cube(path, cube / 2, WAVELENGTHS)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_path_that_cannot_be_written_is_named(tmp_path, cube, suffix):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        write_cube(tmp_path / "file" / f"cube{suffix}", cube, WAVELENGTHS)
    assert str(tmp_path) in str(caught.value)


def test_every_band_needs_a_wavelength(tmp_path, cube):
    with pytest.raises((ValueError, TypeError)):  # the second where annotations are checked
        write_cube(tmp_path / "cube.npz", cube, WAVELENGTHS[:-1].copy())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "action", [read_cube, lambda path: write_cube(path, np.zeros((2, 2, 31), np.float32), WAVELENGTHS)]
)
def test_unknown_suffixes_are_named(tmp_path, action):
    with pytest.raises(InputError, match=r'found suffix "\.xyz"; expected one of \.(mat|hdr), \.'):
        action(tmp_path / "cube.xyz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_and_foreign_files_are_named(tmp_path, suffix):
    path = tmp_path / f"cube{suffix}"
    with pytest.raises(InputError, match="there is no such file"):
        read_cube(path)
    for content in (b"", b"hello " * 200, bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as|not an ENVI header") as caught:
            read_cube(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_truncated_files_are_refused(tmp_path, cube, suffix, share):
    path = tmp_path / f"cube{suffix}"
    write_cube(path, cube, WAVELENGTHS)
    data = path.with_suffix(".img") if suffix == ".hdr" else path
    content = data.read_bytes()
    data.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError) as caught:
        read_cube(path)
    assert str(tmp_path / "cube") in str(caught.value)


# From top to bottom, and as codes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_rows_written_in_turn_make_the_same_file(tmp_path, cube, suffix, dtype):
    write_cube(tmp_path / f"whole{suffix}", cube, WAVELENGTHS, dtype)
    with cube_writer(tmp_path / f"rows{suffix}", cube.shape, WAVELENGTHS, dtype) as append:
        for rows in np.split(cube, [1, 6, 11]):
            append(rows)
            assert not (tmp_path / f"rows{suffix}").exists()
    found = read_cube(tmp_path / f"rows{suffix}")[0]
    np.testing.assert_array_equal(found, read_cube(tmp_path / f"whole{suffix}")[0])
    np.testing.assert_allclose(found, cube, rtol=0, atol=0 if dtype == np.float32 else 0.501 / 65535)


def test_codes_are_clipped_and_stored_with_their_scale(tmp_path):
    cube = np.linspace(-0.5, 1.5, 12 * 17 * 31, dtype=np.float32).reshape(12, 17, 31)
    codes = np.rint(np.clip(cube, 0, 1) * 65535)
    for suffix in SUFFIXES:
        write_cube(tmp_path / f"cube{suffix}", cube, WAVELENGTHS, np.uint16)
        np.testing.assert_allclose(read_cube(tmp_path / f"cube{suffix}")[0], codes / 65535, rtol=1e-6)
    with h5py.File(tmp_path / "cube.mat") as file:
        assert (file["cube"].dtype, file["cube"].attrs["MATLAB_class"]) == (np.uint16, b"uint16")
        assert file["scale"][()] == 65535
        np.testing.assert_array_equal(file["cube"][()].T, codes)
    with np.load(tmp_path / "cube.npz") as file:
        assert (file["cube"].dtype, file["scale"]) == (np.uint16, 65535)
    with tifffile.TiffFile(tmp_path / "cube.tif") as file:
        assert file.shaped_metadata[0]["scale"] == 65535
        assert len(file.pages) == 31
        np.testing.assert_array_equal(file.asarray().transpose(1, 2, 0), codes)
    assert "reflectance scale factor = 65535\n" in (tmp_path / "cube.hdr").read_text()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_source_may_name_a_file_that_is_not_unicode(tmp_path, cube, suffix):
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    with cube_writer(path, cube.shape, WAVELENGTHS, np.float32, source="caf\udce9.png") as append:
        append(cube)
    np.testing.assert_array_equal(read_cube(path)[0], cube)
    assert b"caf?.png" in path.read_bytes().replace(b"\0", b"")  # .npz stores 4 bytes a character


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_incomplete_cube_is_not_kept(tmp_path, cube, suffix):
    with (
        pytest.raises(ValueError, match="5 of 12 rows were written"),
        cube_writer(tmp_path / f"cube{suffix}", cube.shape, WAVELENGTHS, np.float32) as append,
    ):
        append(cube[:5])
    assert not list(tmp_path.iterdir())


def test_missing_values_have_no_code(tmp_path, cube):
    cube[3, 4, 5] = np.nan
    with pytest.raises(InputError, match=r"cube\.npz: found missing values \(NaN\), which uint16 cannot hold"):
        write_cube(tmp_path / "cube.npz", cube, WAVELENGTHS, np.uint16)
    assert not list(tmp_path.iterdir())


def test_rows_of_another_size_are_refused(tmp_path, cube):
    with (
        pytest.raises(ValueError, match=r"found rows of .* for a cube"),
        cube_writer(tmp_path / "cube.h5", cube.shape, WAVELENGTHS, np.float32) as append,
    ):
        append(cube[:, :-1])


def test_other_types_are_refused(tmp_path, cube):
    with pytest.raises(ValueError, match="float32 or uint16, not float64"):
        write_cube(tmp_path / "cube.npz", cube, WAVELENGTHS, np.float64)


# MATLAB


def test_written_mat_files_have_the_layout_matlab_expects(tmp_path, cube):
    path = tmp_path / "cube.mat"
    write_cube(path, cube, WAVELENGTHS)
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:516] == b"\x89HDF"
    with h5py.File(path) as file:
        assert (file["cube"].shape, file["cube"].attrs["MATLAB_class"]) == ((31, 17, 12), b"single")
        assert (file["bands"].shape, file["bands"].attrs["MATLAB_class"]) == ((31, 1), b"double")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_v5_with_bands_on_any_axis(tmp_path, cube, axes, compressed):
    path = tmp_path / "cube.mat"
    content = {"cube": cube.transpose(axes).astype(float), "bands": WAVELENGTHS[None], "norm_factor": 2.0}
    scipy.io.savemat(path, content, do_compression=compressed)
    found, wavelengths = read_cube(path)
    np.testing.assert_array_equal(found, cube)
    np.testing.assert_array_equal(wavelengths, WAVELENGTHS)


@pytest.mark.parametrize(
    ("stored", "attribute"),
    [
        ((2, 1, 0), True),  # as MATLAB writes: it shows (H, W, S)
        ((2, 1, 0), False),  # the same through a tool that leaves the class out
        ((0, 1, 2), False),  # as h5py writes an (H, W, S) array
        ((1, 0, 2), True),  # MATLAB shows (S, H, W)
    ],
)
@pytest.mark.parametrize("user_block", [0, 512])
def test_matlab_v73_is_recognised_by_its_bytes(tmp_path, cube, stored, attribute, user_block):
    path = tmp_path / "cube.mat"
    with h5py.File(path, "w", userblock_size=user_block) as file:
        dataset = file.create_dataset("cube", data=cube.transpose(stored).astype(float), compression="gzip")
        bands = file.create_dataset("bands", data=WAVELENGTHS[:, None])
        for written in (dataset, bands) if attribute else ():
            written.attrs["MATLAB_class"] = np.bytes_("double")
    found, wavelengths = read_cube(path)
    np.testing.assert_array_equal(found, cube)
    np.testing.assert_array_equal(wavelengths, WAVELENGTHS)


@pytest.mark.parametrize("kind", [*SUFFIXES, "v5", "v5 compressed"])
def test_a_header_gives_shape_and_wavelengths_of_the_cube(tmp_path, cube, kind):
    path = tmp_path / f"cube{kind if kind in SUFFIXES else '.mat'}"
    if kind in SUFFIXES:
        write_cube(path, cube, WAVELENGTHS)
    else:
        arrays = {"bands": WAVELENGTHS, "cube": cube.astype(np.float64), "norm_factor": 1.0, "note": "text"}
        scipy.io.savemat(path, arrays, do_compression=kind == "v5 compressed")
    shape, wavelengths = read_cube_header(path)
    assert shape == cube.shape
    np.testing.assert_allclose(wavelengths, WAVELENGTHS)


def test_a_truncated_file_is_found_by_its_header(tmp_path, cube):
    for version in ("v5", "v7.3"):
        path = tmp_path / f"{version}.mat"
        if version == "v5":
            scipy.io.savemat(path, {"cube": cube.astype(np.float64)})
        else:
            write_cube(path, cube, WAVELENGTHS)
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(InputError, match=f"{version}.mat: cannot be read as"):
            read_cube_header(path)


def test_bands_first_in_h5_are_not_mistaken_for_matlab_order(tmp_path, cube):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"] = cube.transpose(2, 0, 1)
    np.testing.assert_array_equal(read_cube(tmp_path / "cube.h5")[0], cube)


def test_v5_and_v73_under_one_name(tmp_path, cube):
    """A v5 and a v7.3 file of the same name differ in their bytes alone."""
    path = tmp_path / "ARAD_HS_0451.mat"
    write_cube(path, cube, WAVELENGTHS)
    first = read_cube(path)[0]
    scipy.io.savemat(path, {"cube": cube})
    np.testing.assert_array_equal(first, read_cube(path)[0])


# Contents


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".h5"])
def test_a_missing_cube_is_reported_with_the_arrays_found(tmp_path, suffix):
    path = tmp_path / f"cube{suffix}"
    content = {"rad": np.ones((4, 5, 31)), "ref": np.ones((4, 5, 31)), "bands": WAVELENGTHS}
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                file[name] = value
    else:
        (np.savez if suffix == ".npz" else lambda file, **values: scipy.io.savemat(file, values))(path, **content)
    found = r"found numeric arrays bands \(.*31.*\), rad \(4×5×31\), ref \(4×5×31\); expected one named cube"
    with pytest.raises(InputError, match=found):
        read_cube(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cube": np.ones((4, 31))}, r"float64 values of shape \(4, 31\); expected numbers on 3 axes"),
        ({"cube": np.ones((2, 4, 5, 31))}, r"values of shape \(2, 4, 5, 31\); expected numbers on 3 axes"),
        (
            {"cube": np.ones((4, 5, 28))},
            r"\(4, 5, 28\) without wavelengths .*; expected one per band: give them with --wavelengths",
        ),
        ({"cube": np.ones((4, 5, 31)), "bands": np.arange(400, 405.0)[:4]}, None),
        (
            {"cube": np.ones((9, 8, 31)), "bands": np.arange(400.0, 407)},
            r"expected an axis of 7 bands \(one per wavelength\)",
        ),
        (
            {"cube": np.ones((4, 5, 3)), "bands": np.array([0.04, 0.05, 0.06])},
            r"found bands of 40-60 nm; expected .* in nm, rising",
        ),
        (
            {"cube": np.ones((4, 5, 3)), "bands": np.array([600, 500, 600])},
            "two bands are at 600 nm; expected distinct ones: give them with --wavelengths",
        ),
        ({"cube": np.full((4, 5, 31), np.nan)}, "620 of 620 values are not finite"),
        ({"cube": np.where(np.arange(31) == 3, np.inf, np.ones((4, 5, 31)))}, "20 of 620 values are not finite"),
        ({"cube": np.full((4, 5, 31), 1e300)}, "620 of 620 values are not finite"),
        ({"cube": np.zeros((0, 5, 31))}, r"values of shape \(0, 5, 31\); expected numbers on 3 axes"),
        ({"cube": np.full((4, 5, 31), "x")}, "cube holds text; expected real numbers"),
        ({"cube": np.ones((4, 5, 31)) * 1j}, "cube holds complex128 values; expected real numbers"),
    ],
)
def test_unusable_cubes_are_refused_with_the_reason(tmp_path, content, message):
    np.savez(tmp_path / "cube.npz", **content)
    if message is None:  # four bands in front
        assert read_cube(tmp_path / "cube.npz")[0].shape == (5, 31, 4)
        return
    with pytest.raises(InputError, match=message):
        read_cube(tmp_path / "cube.npz")


def test_pickles_are_not_opened(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    np.savez(tmp_path / "cube.npz", cube=np.array([Malicious()], dtype=object))
    with pytest.raises(InputError, match=r"cannot be read as an \.npz"):
        read_cube(tmp_path / "cube.npz")


def test_integers_are_scaled_by_their_type(tmp_path):
    codes = np.random.default_rng(0).integers(0, 65536, (4, 5, 31)).astype(np.uint16)
    np.savez(tmp_path / "cube.npz", cube=codes)
    np.testing.assert_allclose(read_cube(tmp_path / "cube.npz")[0], codes / 65535, atol=1e-7)


def test_bands_are_the_last_axis_if_several_axes_fit(tmp_path):
    cube = np.random.default_rng(0).uniform(0, 1, (31, 31, 31)).astype(np.float32)
    write_cube(tmp_path / "cube.mat", cube, WAVELENGTHS)
    np.testing.assert_array_equal(read_cube(tmp_path / "cube.mat")[0], cube)


# Headers that claim too much


@pytest.mark.parametrize("suffix", [".mat", ".h5"])
def test_hdf5_that_claims_more_than_it_holds(tmp_path, suffix):
    with h5py.File(tmp_path / f"cube{suffix}", "w") as file:
        file.create_dataset("cube", (100_000, 100_000, 31), "f4", chunks=(64, 64, 31))
    with pytest.raises(
        InputError, match=r"header claims \(100000, 100000, 31\), 1240000000000 bytes, but the file has"
    ):
        read_cube(tmp_path / f"cube{suffix}")


def test_matlab_v5_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "cube.mat"
    scipy.io.savemat(path, {"cube": np.ones((4, 5, 31))})
    shape = np.array([4, 5, 31], "<i4").tobytes()
    path.write_bytes(path.read_bytes().replace(shape, np.array([4_000_000, 50_000, 31], "<i4").tobytes()))
    with pytest.raises(
        InputError, match=r"`cube` claims shape \(4000000, 50000, 31\) of 8 bytes each, but holds 4960 bytes"
    ):
        read_cube(path)


def test_tiff_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "cube.tif"
    tifffile.imwrite(path, np.ones((31, 40, 50), np.float32), photometric="minisblack", metadata=None)
    content = path.read_bytes()
    entry, value = b"\x00\x01\x04\x00\x01\0\0\0", b"\x32\0\0\0"  # tag 256, the width: one LONG, 50
    assert entry + value in content
    path.write_bytes(content.replace(entry + value, entry + b"\0\0\0\x40"))
    with pytest.raises(InputError, match=r"cube\.tif"):
        read_cube(path)


def test_tiff_with_unusable_wavelengths_or_values(tmp_path):
    path = tmp_path / "cube.tif"
    described = {"axes": "CYX", "wavelengths": ["red"] * 31}
    tifffile.imwrite(path, np.ones((31, 4, 5), np.float32), photometric="minisblack", metadata=described)
    with pytest.raises(InputError, match="cannot be read as a TIFF file"):
        read_cube(path)
    tifffile.imwrite(path, np.ones((31, 4, 5), np.complex64), photometric="minisblack")
    with pytest.raises(InputError, match="found complex64 values"):
        read_cube(path)


def test_missing_values_are_read_if_allowed(tmp_path):
    cube = np.random.default_rng(0).random((4, 5, 31), np.float32)
    cube[1, 2, 3], cube[0, 0, 0] = np.nan, np.inf
    np.savez(tmp_path / "a.npz", cube=cube)
    read, _ = read_cube(tmp_path / "a.npz", allow_missing=True)
    np.testing.assert_array_equal(read, cube)
