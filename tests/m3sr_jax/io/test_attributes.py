"""What attributes of HDF5 and NetCDF-4 arrays declare: applied, or refused by name."""

import h5py
import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.io.cubes import read_cube_file

NM = np.array([450.0, 550.0, 650.0])
STORED = np.arange(-20, 40, dtype=np.int16).reshape(4, 5, 3)


def write(folder, values=STORED, name="cube.h5", **attributes):
    with h5py.File(folder / name, "w") as file:
        file["cube"], file["wavelengths"] = values, NM
        file["cube"].attrs.update({key.replace("__", " "): value for key, value in attributes.items()})
    return folder / name


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"scale_factor": 0.5, "add_offset": 3.0}, STORED * 0.5 + 3),
        ({"scale_factor": np.array([0.5])}, STORED * 0.5),
        ({"add_offset": 3}, STORED + 3),
        ({"Scale_Factor": 10000.0}, STORED / 10000),
        ({"Scale__Factor": 0.0001}, STORED * 0.0001),
        ({"units": "%"}, STORED / 100),
        ({"units": "percent", "scale_factor": 0.5}, STORED * 0.5 / 100),
        ({"unit": "Percent reflectance"}, STORED / 100),
        ({"units": "Reflectance*1e4"}, STORED / 10000),
        ({"_FillValue": np.int16(-20)}, np.where(STORED == -20, np.nan, STORED)),
        ({"missing_value": np.array([-20, 5], "i2")}, np.where(np.isin(STORED, (-20, 5)), np.nan, STORED)),
        ({"Data_Ignore_Value": -20.0, "Scale_Factor": 10.0}, np.where(STORED == -20, np.nan, STORED / 10)),
        ({"valid_range": np.array([0, 30], "i2")}, np.where((STORED < 0) | (STORED > 30), np.nan, STORED)),
        ({"valid_min": np.int16(0)}, np.where(STORED < 0, np.nan, STORED)),
        ({"valid_max": np.int16(7), "scale_factor": 2.0}, np.where(STORED > 7, np.nan, STORED * 2.0)),
        ({"valid_max": 7.0, "scale_factor": 2.0}, np.where(STORED * 2 > 7, np.nan, STORED * 2.0)),  # of the values
        ({"long_name": "reflectance", "units": "1", "scale_factor": 1.0}, STORED),
    ],
)
def test_declarations_are_applied_to_stored_numbers(tmp_path, attributes, expected):
    cube = read_cube_file(write(tmp_path, **attributes), allow_missing=True)
    np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
    assert cube.notes


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"scale_factor": "much"}, "cube has scale_factor = much; expected finite numbers"),
        ({"scale_factor": np.nan}, "cube has scale_factor = nan; expected finite numbers"),
        ({"scale_factor": 0.0}, "cube has scale_factor = 0; expected a number above 0"),
        ({"scale_factor": np.ones(3)}, "cube has a scale_factor of 3 numbers; expected one"),
        ({"valid_range": np.int16(3)}, "cube has a valid_range of 1 numbers; expected 2"),
        ({"_FillValue": "none"}, "cube has _FillValue = none; expected finite numbers"),
        ({"Scale_Factor": 10000.0, "add_offset": 1.0}, "cube has add_offset beside a divisor"),
        ({"slope": 0.001}, "cube has slope = 0.001, which follows no known convention; expected scale_factor"),
        ({"scale_factor": 0.1, "calibrated_nt": np.int32(5)}, "cube has calibrated_nt = 5"),
        ({"_Unsigned": "true"}, "cube has _Unsigned = true"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(tmp_path, attributes, message):
    with pytest.raises(InputError, match=message):
        read_cube(write(tmp_path, **attributes))


def test_missing_values_are_refused_with_their_declaration(tmp_path):
    with pytest.raises(InputError, match="1 of 60 values are not finite or missing, some by _FillValue = -20"):
        read_cube(write(tmp_path, _FillValue=np.int16(-20)))


def test_the_fill_value_of_hdf5_itself(tmp_path):
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        cube = file.create_dataset("cube", STORED.shape, "f4", chunks=(1, 5, 3), fillvalue=-1)
        cube[:2], file["wavelengths"] = STORED[:2], NM
    found, _ = read_cube(tmp_path / "cube.h5", allow_missing=True)
    assert np.isnan(found).sum() == 30 + (STORED[:2] == -1).sum()


@pytest.mark.parametrize("units", [("nanometers", 1), ("um", 1e-3), ("micrometers", 1e-3)])
def test_the_unit_of_the_wavelengths(tmp_path, units):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["wavelengths"]
        file["wavelengths"] = NM * units[1]
        file["wavelengths"].attrs["Units"] = units[0]
    np.testing.assert_allclose(read_cube(path)[1], NM)


def test_flags_of_good_bands(tmp_path):
    """As EMIT has them."""
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["good_wavelengths"] = np.array([1, 0, 1], "u1")
    cube, wavelengths = read_cube(path)
    np.testing.assert_array_equal(wavelengths, [450, 650])
    np.testing.assert_array_equal(cube, STORED[..., [0, 2]])


@pytest.mark.parametrize("order", [("y", "x", "band"), ("band", "y", "x")])
@pytest.mark.parametrize("packed", [False, True])
def test_what_netcdf4_writes(tmp_path, order, packed):
    netcdf = pytest.importorskip("netCDF4", reason="the NetCDF library is the reference")
    sizes = {"y": 3, "x": 3, "band": 3}  # only the dimensions' names tell the bands
    values = np.random.default_rng(0).uniform(0.1, 1, (3, 3, 3)).astype("f4")
    with netcdf.Dataset(tmp_path / "cube.nc", "w") as file:
        for name, size in sizes.items():
            file.createDimension(name, size)
        centres = file.createVariable("band", "f8", ("band",))
        centres[:], centres.units = NM, "nm"
        made = file.createVariable("reflectance", "i2" if packed else "f4", order, fill_value=-99 if packed else None)
        if packed:
            made.scale_factor, made.add_offset = 1e-4, 0.5
        made[:2] = values[:2]  # the rest is fill
    with netcdf.Dataset(tmp_path / "cube.nc") as file:
        expected = file["reflectance"][:].filled(np.nan)
    found = read_cube_file(tmp_path / "cube.nc", allow_missing=True)
    expected = np.moveaxis(expected, order.index("band"), -1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert np.isnan(found.values).any()
    np.testing.assert_array_equal(found.wavelengths, NM)
    assert "array reflectance" in found.notes


@pytest.mark.parametrize(("start", "name"), [(b"CDF\x01", "classic NetCDF"), (b"\x0e\x03\x13\x01", "HDF4")])
def test_older_formats_are_named(tmp_path, start, name):
    (tmp_path / "cube.nc").write_bytes(start + bytes(100))
    with pytest.raises(InputError, match=f"found {name}; expected .*: convert it with"):
        read_cube(tmp_path / "cube.nc")
