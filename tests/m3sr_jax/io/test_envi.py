import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, read_cube_file, write_cube

HEADER = """ENVI
description = {
  A cube, with samples = 99 in the description}
samples = 5
lines   = 4
bands   = 3
header offset = {offset}
data type = {kind}
interleave = {interleave}
byte order = {order}
wavelength units = {units}
wavelength = {
 {wavelengths} }
"""


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 200, (4, 5, 3))


def write(
    folder, values, *, kind="4", interleave="bsq", order=0, offset=0, units="Nanometers", extra="", suffix=".img"
):
    wavelengths = "0.45,\n 0.55, 0.65" if units == "Micrometers" else "450,\n 550, 650"
    fields = {"offset": offset, "kind": kind, "interleave": interleave, "order": order, "units": units}
    text = HEADER.replace("{wavelengths}", wavelengths)
    for name, value in fields.items():
        text = text.replace(f"{{{name}}}", str(value))
    (folder / "cube.hdr").write_text(text + extra)
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave.lower()]
    letter = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4"}[kind]
    data = values.transpose(axes).astype(("<", ">")[order] + letter).tobytes()
    (folder / f"cube{suffix}").write_bytes(bytes(offset) + data)
    return folder / "cube.hdr"


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip", "BIL"])
@pytest.mark.parametrize(
    ("kind", "order", "offset"), [("4", 0, 0), ("4", 1, 0), ("5", 1, 64), ("2", 1, 7), ("3", 0, 0)]
)
def test_every_arrangement_gives_the_same_cube(tmp_path, values, interleave, kind, order, offset):
    cube, wavelengths = read_cube(write(tmp_path, values, interleave=interleave, kind=kind, order=order, offset=offset))
    np.testing.assert_array_equal(cube, values)
    np.testing.assert_array_equal(wavelengths, [450, 550, 650])


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_31_columns_without_wavelengths_are_no_bands(tmp_path, interleave):
    stored = np.arange(4 * 31 * 5).reshape(4, 31, 5)
    path = write(tmp_path, stored, interleave=interleave)
    fields = {"samples = 5": "samples = 31", "bands   = 3": "bands   = 5", "wavelength = {": "x = {"}
    text = path.read_text()
    for old, new in fields.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    np.testing.assert_array_equal(read_cube_file(path).values, stored)
    with pytest.raises(InputError, match=r"cube of shape \(4, 31, 5\); expected an axis of 31 bands"):
        read_cube_file(path, wavelengths="400:700:10")


@pytest.mark.parametrize(("kind", "largest"), [("1", 255), ("12", 65535), ("13", 2**32 - 1)])
def test_unsigned_integers_are_scaled_by_their_type(tmp_path, values, kind, largest):
    np.testing.assert_allclose(read_cube(write(tmp_path, values, kind=kind))[0], values / largest, rtol=1e-6)


def test_a_scale_factor_replaces_the_types_scale(tmp_path, values):
    cube, _ = read_cube(write(tmp_path, values, kind="12", extra="reflectance scale factor = 200\n"))
    np.testing.assert_allclose(cube, values / 200, rtol=1e-6)


def test_micrometres_become_nanometres(tmp_path, values):
    _, wavelengths = read_cube(write(tmp_path, values, units="Micrometers"))
    np.testing.assert_allclose(wavelengths, [450, 550, 650])


@pytest.mark.parametrize("suffix", [".dat", ".raw", ""])
def test_data_files_are_found_by_their_usual_names(tmp_path, values, suffix):
    np.testing.assert_array_equal(read_cube(write(tmp_path, values, suffix=suffix))[0], values)


def test_the_data_files_name_opens_the_cube(tmp_path, values):
    write(tmp_path, values)
    np.testing.assert_array_equal(read_cube(tmp_path / "cube.img")[0], values)


def test_the_written_header_describes_the_data(tmp_path):
    write_cube(tmp_path / "cube.hdr", np.ones((4, 5, 2), np.float32), np.array([400.0, 512.5]))
    text = (tmp_path / "cube.hdr").read_text()
    for line in ("samples = 5", "lines = 4", "bands = 2", "interleave = bsq", "wavelength = {400, 512.5}"):
        assert line in text.splitlines()
    assert (tmp_path / "cube.img").stat().st_size == 4 * 5 * 2 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lines   = 4", "lines = 4000000"), r"header claims \(3, 4000000, 5\), 240000000 bytes, but the file has 240"),
        (
            ("header offset = 0", "header offset = 8"),
            r"shorter than its header says \(cube\.hdr claims \(3, 4, 5\) values after 8 bytes\)",
        ),
        (("lines   = 4", "lines = -4"), "found lines = -4; expected a whole number of at least 1"),
        (("lines   = 4", "lines = 0"), "found lines = 0; expected a whole number of at least 1"),
        (("samples = 5\n", "\n"), r"found samples = \(none\); expected a whole number"),
        (("data type = 4", "data type = 6"), r"type 6 \(complex64\) and interleave bsq; expected one of 1, 2, 3, 4, 5"),
        (("interleave = bsq", "interleave = tiles"), "interleave tiles; expected .* bsq, bil or bip"),
        (("bands   = 3", "bands = 3\nreflectance scale factor = 0"), "scale factor = 0; expected a number above 0"),
        (("450", "blue"), "found a list that is not numeric .*blue.*; expected numbers and commas"),
        (("Nanometers", "Wavenumber"), "wavelength units = wavenumber; expected Nanometers or Micrometers"),
    ],
)
def test_unusable_headers_are_refused_with_the_reason(tmp_path, values, change, message):
    path = write(tmp_path, values)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(InputError, match=message) as caught:
        read_cube(path)
    assert str(tmp_path / "cube.") in str(caught.value)


def test_a_header_without_data_is_named(tmp_path, values):
    path = write(tmp_path, values)
    (tmp_path / "cube.img").unlink()
    with pytest.raises(InputError, match=r"no data file beside it; expected cube with \.img"):
        read_cube(path)
