import h5py
import numpy as np
import pytest
import scipy.io

from m3sr_jax.io.named_arrays import is_hdf5, read_named_arrays


def write_matlab(path, arrays):
    """As MATLAB saves with -v7.3."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_only_numeric_arrays_are_returned(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    content = {"numbers": np.arange(6.0).reshape(2, 3), "text": np.array(["a", "b"])}
    (np.savez if suffix == ".npz" else lambda file, **values: scipy.io.savemat(file, values))(path, **content)
    found = read_named_arrays(path)
    assert list(found) == ["numbers"]
    np.testing.assert_array_equal(found["numbers"], content["numbers"])


def test_both_matlab_versions_give_the_axes_matlab_shows(tmp_path):
    array = np.arange(24.0).reshape(2, 3, 4)
    scipy.io.savemat(tmp_path / "v5.mat", {"array": array})
    write_matlab(tmp_path / "v73.mat", {"array": array})
    assert not is_hdf5(tmp_path / "v5.mat")
    assert is_hdf5(tmp_path / "v73.mat")
    for name in ("v5.mat", "v73.mat"):
        np.testing.assert_array_equal(read_named_arrays(tmp_path / name)["array"], array)


def test_names_choose_what_is_read(tmp_path):
    write_matlab(tmp_path / "file.mat", {"a": np.ones(3), "b": np.ones(4)})
    assert list(read_named_arrays(tmp_path / "file.mat", ("b", "c"))) == ["b"]


def test_members_of_groups_have_their_path(tmp_path):
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["group/array"] = np.ones(3)
        file["array"] = np.ones(2)
    assert list(read_named_arrays(tmp_path / "file.h5")) == ["array", "group/array"]
