"""What arrays and text beside a cube declare about it: applied, or refused by name."""

import h5py
import numpy as np
import pytest
import scipy.io

from m3sr_jax.errors import InputError
from m3sr_jax.io.cubes import read_cube_file

NM = np.arange(400.0, 701, 10)
CODES = np.random.default_rng(0).integers(0, 10000, (6, 5, 31)).astype(np.int16)


def save_mat(path, arrays):
    scipy.io.savemat(path, arrays)


def save_compressed_mat(path, arrays):
    scipy.io.savemat(path, arrays, do_compression=True)


def save_v73(path, arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in arrays.items():
            kind = {"U": "char", "b": "logical"}.get(np.asarray(value).dtype.kind, "double")
            stored = [[ord(c)] for c in value] if kind == "char" else np.atleast_2d(value).T
            file[name] = np.asarray(stored, {"char": "u2", "logical": "u1"}.get(kind))
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)


def save_npz(path, arrays):
    np.savez(path, **arrays)


def save_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value  # text of variable length


def save_h5_of_fixed_text(path, arrays):
    save_h5(path, {name: np.bytes_(value) if isinstance(value, str) else value for name, value in arrays.items()})


SAVERS = [
    pytest.param(save, suffix, id=save.__name__)
    for save, suffix in (
        *((save_mat, ".mat"), (save_compressed_mat, ".mat"), (save_v73, ".mat")),
        *((save_npz, ".npz"), (save_h5, ".h5"), (save_h5_of_fixed_text, ".h5")),
    )
]


@pytest.mark.parametrize(("save", "suffix"), SAVERS)
@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"scale": 10000.0}, CODES / 10000),
        ({"scale_factor": 1e-4}, CODES * 1e-4),
        ({"scale_factor": 0.5, "add_offset": 3.0}, CODES * 0.5 + 3),
        ({"nodata": float(CODES[2, 3, 4])}, np.where(CODES[2, 3, 4] == CODES, np.nan, CODES)),
        ({"units": "%"}, CODES / 100),
        ({"units": "radiance"}, CODES),
    ],
)
def test_scales_beside_a_cube(tmp_path, save, suffix, beside, expected):
    save(tmp_path / f"cube{suffix}", {"cube": CODES, "bands": NM, **beside})
    found = read_cube_file(tmp_path / f"cube{suffix}", allow_missing=True)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.wavelengths, NM)


@pytest.mark.parametrize(("save", "suffix"), SAVERS)
def test_a_scale_that_may_multiply_or_divide_is_refused(tmp_path, save, suffix):
    save(tmp_path / f"cube{suffix}", {"cube": CODES, "bands": NM, "scale_factor": 10000.0})
    with pytest.raises(InputError, match="found scale_factor = 10000; it may multiply or divide; call it scale"):
        read_cube_file(tmp_path / f"cube{suffix}")


def test_a_scale_in_the_struct_of_the_cube(tmp_path):
    scipy.io.savemat(tmp_path / "cube.mat", {"hsi": {"cube": CODES, "bands": NM, "scale": 100.0}, "scale": 3.0})
    np.testing.assert_allclose(read_cube_file(tmp_path / "cube.mat").values, CODES / 100, rtol=1e-6)


def test_a_scale_beside_floats_is_noted(tmp_path):
    np.savez(tmp_path / "cube.npz", cube=CODES.astype("f4"), wavelengths=NM, scale=10.0)
    found = read_cube_file(tmp_path / "cube.npz")
    np.testing.assert_array_equal(found.values, CODES)
    assert "scale = 10 not applied: it divides integers without another scale" in found.notes


@pytest.mark.parametrize(("save", "suffix"), SAVERS)
@pytest.mark.parametrize(
    ("name", "factor", "units"),
    [("wavelength_units", 10, "Angstrom"), ("units", 10, "angstroms"), ("wavelengths_unit", 1e-3, "micrometers")],
)
def test_units_of_wavelengths_as_text(tmp_path, save, suffix, name, factor, units):
    save(tmp_path / f"cube{suffix}", {"cube": CODES, "wavelengths": NM * factor, name: units})
    np.testing.assert_allclose(read_cube_file(tmp_path / f"cube{suffix}").wavelengths, NM)


@pytest.mark.parametrize(("save", "suffix"), SAVERS)
def test_good_bands_as_logical_values(tmp_path, save, suffix):
    save(tmp_path / f"cube{suffix}", {"cube": CODES, "bands": NM, "good_bands": np.arange(31) > 2})
    np.testing.assert_array_equal(read_cube_file(tmp_path / f"cube{suffix}").wavelengths, NM[3:])


@pytest.mark.parametrize(("save", "suffix"), SAVERS)
def test_wavelengths_as_text_are_refused(tmp_path, save, suffix):
    save(tmp_path / f"cube{suffix}", {"cube": CODES, "wavelengths": "400:10:700"})
    with pytest.raises(InputError, match=r"found wavelengths \(.*text\); expected a list of numbers"):
        read_cube_file(tmp_path / f"cube{suffix}")


def test_wavelengths_with_a_scale_of_their_own(tmp_path):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"], file["wavelengths"] = CODES, (NM * 10 - 1000).astype("i2")
        file["wavelengths"].attrs.update({"scale_factor": 0.1, "add_offset": 100.0, "units": "nm"})
    np.testing.assert_allclose(read_cube_file(tmp_path / "cube.h5").wavelengths, NM)


def test_wavelengths_in_an_attribute(tmp_path):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"] = CODES[..., :28]
        file["cube"].attrs.update({"wavelengths": NM[:28] / 1000, "wavelength_units": "um"})
    np.testing.assert_allclose(read_cube_file(tmp_path / "cube.h5").wavelengths, NM[:28])


@pytest.mark.parametrize(("name", "message"), [("L2ScaleVnirMax", "has L2ScaleVnirMax = 0.9"), ("scale_factor", None)])
def test_scales_of_the_group_concern_integers(tmp_path, name, message):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["swath/cube"], file["swath/wavelengths"] = CODES, NM
        file.attrs[name] = 0.9
    if message is None:
        np.testing.assert_allclose(read_cube_file(tmp_path / "cube.h5").values, CODES * 0.9, rtol=1e-6)
        return
    with pytest.raises(InputError, match=message):
        read_cube_file(tmp_path / "cube.h5")


def test_a_dimension_without_a_variable_is_no_list_of_wavelengths(tmp_path):
    """As in EMIT's reflectance: the dimension `bands` has no variable, and wavelengths are in a group."""
    netcdf = pytest.importorskip("netCDF4", reason="the NetCDF library is the reference")
    with netcdf.Dataset(tmp_path / "cube.nc", "w") as file:
        for name, size in (("downtrack", 6), ("crosstrack", 5), ("bands", 31)):
            file.createDimension(name, size)
        file.createVariable("reflectance", "f4", ("downtrack", "crosstrack", "bands"))[:] = CODES
        group = file.createGroup("sensor_band_parameters")
        group.createVariable("wavelengths", "f4", ("bands",))[:] = NM
        group.createVariable("good_wavelengths", "f4", ("bands",))[:] = np.arange(31) > 0
    found = read_cube_file(tmp_path / "cube.nc")
    np.testing.assert_array_equal(found.values, CODES[..., 1:])
    np.testing.assert_array_equal(found.wavelengths, NM[1:])


def test_several_axes_that_could_be_bands_are_noted(tmp_path):
    np.savez(tmp_path / "cube.npz", cube=np.ones((31, 31, 31), "f4"), wavelengths=NM)
    assert "3 axes of 31: the last taken for the bands" in read_cube_file(tmp_path / "cube.npz").notes
