"""Which array of a file is the cube, and where its wavelengths are."""

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.io.cubes import read_cube_file, read_cube_header

NM = np.arange(400.0, 701, 10)
CUBE = np.random.default_rng(0).uniform(0.1, 1, (6, 5, 31)).astype(np.float32)


def save_mat(path, arrays):
    scipy.io.savemat(path, arrays)


def save_compressed_mat(path, arrays):
    scipy.io.savemat(path, arrays, do_compression=True)


def save_v73(path, arrays):
    """As MATLAB: structs are groups, axes are reversed."""

    def put(group, content):
        for name, value in content.items():
            if isinstance(value, dict):
                put(group.create_group(name), value)
                group[name].attrs["MATLAB_class"] = np.bytes_("struct")
            else:
                group[name] = np.atleast_2d(value).T
                group[name].attrs["MATLAB_class"] = np.bytes_("double")

    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, arrays)


def test_links(tmp_path):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["a/b"], file["wavelengths"] = CUBE, NM
        file["a/inside"], file["outside"] = h5py.SoftLink("b"), h5py.ExternalLink("other.h5", "/cube")
        file["nowhere"] = h5py.SoftLink("/lost")
    for key in (None, "a/b", "a/inside", "inside"):
        np.testing.assert_array_equal(read_cube(tmp_path / "cube.h5", key=key)[0], CUBE)
    for key, target in (("outside", "/cube"), ("nowhere", "/lost")):
        with pytest.raises(InputError, match=f"{key} holds a link to {target}, which is not in this file"):
            read_cube(tmp_path / "cube.h5", key=key)


def test_what_is_no_array_of_numbers_is_named(tmp_path):
    cell = np.empty((1, 1), object)
    cell[0, 0] = CUBE
    contents = {"a cell array": cell, "text": "words", "logical values": CUBE > 0.5}
    contents["an array of structs"] = np.array([(CUBE,), (CUBE,)], [("a", object)])
    contents["a sparse matrix"] = scipy.sparse.csc_matrix(np.eye(3))
    for kind, content in contents.items():
        scipy.io.savemat(tmp_path / "cube.mat", {"cube": content})
        with pytest.raises(InputError, match=f"cube holds {kind}; expected real numbers"):
            read_cube(tmp_path / "cube.mat")
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["data"] = CUBE
        file.create_dataset("cube", data=np.array([file["data"].ref], h5py.ref_dtype))
    with pytest.raises(InputError, match="cube holds references to other arrays; expected real numbers"):
        read_cube(tmp_path / "cube.h5")


@pytest.mark.parametrize("save", [save_mat, save_compressed_mat, save_v73])
@pytest.mark.parametrize(
    ("arrays", "chosen"),
    [
        ({"rad": CUBE, "bands": NM, "rgb": CUBE[..., :3]}, "rad"),  # ICVL, NTIRE 2018
        ({"ref": CUBE, "calib": np.ones(31), "lbl": np.ones((6, 5))}, "ref"),  # Harvard
        ({"hsi": {"Data": CUBE, "info": {"wavelength": NM}}}, "hsi.Data"),  # MUUFL
        ({"S": {"cube": CUBE, "bands": NM}, "T": {"bands": NM[:7]}}, "S.cube"),
        ({"data": CUBE.transpose(2, 0, 1), "wl": NM / 1000}, "data"),
    ],
)
def test_the_only_cube_is_taken_and_named(tmp_path, save, arrays, chosen):
    save(tmp_path / "file.mat", arrays)
    cube = read_cube_file(tmp_path / "file.mat")
    np.testing.assert_array_equal(cube.values, CUBE)
    np.testing.assert_allclose(cube.wavelengths, NM)
    assert cube.notes[0] == f"array {chosen}"
    assert read_cube_header(tmp_path / "file.mat")[0] == CUBE.shape


@pytest.mark.parametrize("key", ["pred", "/pred", "out.pred", "out/pred"])
@pytest.mark.parametrize("save", [save_mat, save_v73])
def test_a_key_chooses_and_a_batch_of_one_is_a_cube(tmp_path, save, key):
    save(tmp_path / "file.mat", {"out": {"pred": CUBE[None], "truth": 2 * CUBE[None]}, "bands": 31})
    with pytest.raises(InputError, match=r"out.pred \(1×6×5×31\), out.truth .*; choose one with --key NAME"):
        read_cube(tmp_path / "file.mat")
    found, wavelengths = read_cube(tmp_path / "file.mat", key=key)
    np.testing.assert_array_equal(found, CUBE)
    np.testing.assert_array_equal(wavelengths, NM)


def test_wrong_keys_are_answered_with_the_arrays(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["a/data"], file["b/data"], file["note"] = CUBE, CUBE, "text"
    with pytest.raises(InputError, match=r"found no array called rad; expected one of a/data \(6×5×31\), b/data"):
        read_cube(tmp_path / "file.h5", key="rad")
    with pytest.raises(InputError, match="found several arrays called data; expected one of a/data"):
        read_cube(tmp_path / "file.h5", key="data")
    np.testing.assert_array_equal(read_cube(tmp_path / "file.h5", key="b/data")[0], CUBE)


@pytest.mark.parametrize("suffix", [".hdr", ".tif"])
def test_a_key_for_a_file_without_names_is_refused(tmp_path, suffix):
    with pytest.raises(InputError, match=r"key rad: .* no named arrays; leave the key out"):
        read_cube(tmp_path / f"cube{suffix}", key="rad")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CUBE.astype(complex), "holds complex128 values; expected real numbers"),
        (np.zeros((4, 5, 31), [("r", "f4"), ("i", "f4")]), "holds structured values; expected real numbers"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, lambda path, cube: np.save(path.with_suffix(".npy"), cube)])
def test_numbers_that_are_not_real_are_refused(tmp_path, array, message, save):
    save(tmp_path / "file.npz", cube=array)
    with pytest.raises(InputError, match=message):
        read_cube(next(tmp_path.iterdir()))


def test_a_complex_matlab_array_is_refused(tmp_path):
    for save in (save_mat, save_compressed_mat):
        save(tmp_path / "file.mat", {"cube": CUBE * 1j})
        with pytest.raises(InputError, match="cube holds complex128 values"):
            read_cube(tmp_path / "file.mat")


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", ">u2"])
def test_numpy_files_of_any_order(tmp_path, order, dtype):
    values = CUBE if "f" in dtype else CUBE * 65535
    stored = np.asarray(values.astype(dtype), order=order)
    np.save(tmp_path / "cube.npy", stored)
    np.savez(tmp_path / "cube.npz", stored)
    expected = stored.astype("f4") / np.float32(65535 if "u" in dtype else 1)
    for name in ("cube.npy", "cube.npz"):
        np.testing.assert_array_equal(read_cube(tmp_path / name)[0], expected)


def test_integers_are_divided_by_a_stored_scale(tmp_path):
    np.savez(tmp_path / "cube.npz", cube=(CUBE * 4095).astype("u2"), scale=4095.0)
    cube = read_cube_file(tmp_path / "cube.npz")
    np.testing.assert_allclose(cube.values, (CUBE * 4095).astype("u2") / 4095, rtol=1e-6)
    assert "divided by scale = 4095" in cube.notes
    np.savez(tmp_path / "cube.npz", cube=(CUBE * 4095).astype("u2"))
    assert "uint16: divided by 65535, no scale declared" in read_cube_file(tmp_path / "cube.npz").notes


@pytest.mark.parametrize(("shape", "bands"), [((6, 5, 28), 28), ((4, 100, 80), 4), ((64, 64, 28), 28)])
def test_without_wavelengths_the_axis_of_the_bands_is_guessed(tmp_path, shape, bands):
    np.save(tmp_path / "cube.npy", np.zeros(shape, "f4"))
    cube = read_cube_file(tmp_path / "cube.npy")
    assert cube.values.shape[2] == bands
    assert cube.wavelengths is None
    assert f"of {bands}, taken for the bands" in cube.notes[0]
    given = ",".join(map(str, range(400, 400 + bands)))
    assert read_cube(tmp_path / "cube.npy", wavelengths=given)[1][-1] == 399 + bands


@pytest.mark.parametrize("bands", [np.arange(1, 32), np.arange(31), 31])
def test_counted_bands_are_no_wavelengths(tmp_path, bands):
    np.savez(tmp_path / "cube.npz", cube=CUBE, bands=bands)
    cube = read_cube_file(tmp_path / "cube.npz")
    np.testing.assert_array_equal(cube.wavelengths, NM)
    assert "number" in cube.notes[0]
    assert "no wavelengths: taken for 400-700 nm, as 31 bands usually are" in cube.notes


@pytest.mark.parametrize("wavelengths", [np.stack([NM, NM], 1), NM.astype(str)])
def test_wavelengths_that_are_no_list_are_refused_not_passed_over(tmp_path, wavelengths):
    np.savez(tmp_path / "cube.npz", cube=CUBE, wavelengths=wavelengths)
    with pytest.raises(InputError, match=r"found wavelengths \(.*31.*; expected a list of numbers: give them with"):
        read_cube(tmp_path / "cube.npz")
    assert read_cube(tmp_path / "cube.npz", wavelengths="410:710:10")[1][0] == 410


@pytest.mark.parametrize("python_metadata", [True, False])
def test_what_hdf5storage_writes(tmp_path, python_metadata):
    hdf5storage = pytest.importorskip("hdf5storage", reason="another writer of MATLAB v7.3")
    content = {"cube": CUBE.astype("f8"), "bands": NM, "note": "text", "mask": np.ones((6, 5, 2), bool)}
    options = {"format": "7.3", "store_python_metadata": python_metadata}
    hdf5storage.savemat(str(tmp_path / "file.mat"), content, **options)
    np.testing.assert_array_equal(read_cube(tmp_path / "file.mat")[0], CUBE)


def test_groups_that_contain_themselves(tmp_path):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        group = file.create_group("group")
        group["itself"], group["data"] = group, CUBE
    assert read_cube_file(tmp_path / "cube.h5").notes[0] == "array group/data"


def test_matlab_v4_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "file.mat", {"cube": CUBE[..., 0]}, format="4")
    with pytest.raises(InputError, match="MATLAB v4, whose arrays have two axes"):
        read_cube(tmp_path / "file.mat")
