"""Headers as everybody's software writes them, and every declaration that touches the numbers."""

import gzip
import warnings

import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.io.cubes import read_cube_file

LINES, SAMPLES, BANDS = 4, 5, 3
NM = np.array([450.0, 550.0, 650.0])
VALUES = np.add.outer(np.add.outer(100.0 * np.arange(LINES), 10.0 * np.arange(SAMPLES)), np.arange(BANDS))
LIST = "wavelength = {450, 550, 650}\n"


def write(folder, extra=LIST, *, values=VALUES, dtype="<f4", code=4, data=".img", header=".hdr", content=None):
    text = (
        f"ENVI\nsamples = {values.shape[1]}\nlines = {values.shape[0]}\nbands = {values.shape[2]}\n"
        f"data type = {code}\ninterleave = bip\nbyte order = 0\n{extra}"
    )
    (folder / f"cube{header}").write_text(text, encoding="utf-8")
    (folder / f"cube{data}").write_bytes(values.astype(dtype).tobytes() if content is None else content)
    return folder / f"cube{header}"


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        *((unit, 1) for unit in ("Nanometers", "nanometer", "NM", " nm ", "Nanometres", "(nm)", "nanómetros")),
        *((unit, 1e-3) for unit in ("Micrometers", "Microns", "um", "µm", "μm", "Micrometres", "[um]", "micron")),
        *((unit, 10) for unit in ("Angstroms", "Å", "angstrom")),
        *(("mm", 1e-6), ("Millimeters", 1e-6), ("cm", 1e-7), ("m", 1e-9), ("Meters", 1e-9)),
    ],
)
def test_units_in_any_spelling(tmp_path, units, factor):
    centres = ", ".join(f"{nm * factor:.10g}" for nm in NM)
    path = write(tmp_path, f"wavelength units = {units}\nwavelength = {{{centres}}}\n")
    cube = read_cube_file(path)
    np.testing.assert_allclose(cube.wavelengths, NM)
    assert cube.notes == ()


@pytest.mark.parametrize(("units", "named"), [("Unknown", "Unknown"), ("", "without a unit"), (None, "without a unit")])
@pytest.mark.parametrize(("factor", "guess"), [(1, "nanometres"), (1e-3, "micrometres")])
def test_unknown_units_are_guessed_by_size_and_the_guess_is_told(tmp_path, units, named, factor, guess):
    line = "" if units is None else f"wavelength units = {units}\n"
    centres = ", ".join(f"{nm * factor:g}" for nm in NM)
    cube = read_cube_file(write(tmp_path, f"{line}wavelength = {{{centres}}}\n"))
    np.testing.assert_allclose(cube.wavelengths, NM)
    assert named in cube.notes[0]
    assert f"taken for {guess}" in cube.notes[0]


@pytest.mark.parametrize("units", ["Wavenumber", "cm-1", "1/cm", "GHz", "eV", "cm^-1"])
def test_units_that_are_no_length_are_refused(tmp_path, units):
    with pytest.raises(InputError, match=r"found wavelength units = .*; expected Nanometers or Micrometers"):
        read_cube(write(tmp_path, f"wavelength units = {units}\n{LIST}"))


@pytest.mark.parametrize(
    "lines", ["wavelength units = Index\nwavelength = {1, 2, 3}\n", "wavelength = {0, 1, 2}\n", ""]
)
def test_numbers_of_bands_are_no_wavelengths(tmp_path, lines):
    path = write(tmp_path, lines)
    assert read_cube_file(path).wavelengths is None
    with pytest.raises(InputError, match=r"without wavelengths.*give them with --wavelengths"):
        read_cube(path)
    np.testing.assert_array_equal(read_cube(path, wavelengths="450:650:100")[1], NM)


def test_given_wavelengths_replace_those_of_the_file(tmp_path):
    path = write(tmp_path)
    (tmp_path / "mine.csv").write_text("nm,fwhm\n700,5\n600,5\n500,5\n")
    cube, wavelengths = read_cube(path, wavelengths=str(tmp_path / "mine.csv"))
    np.testing.assert_array_equal(wavelengths, [500, 600, 700])
    np.testing.assert_array_equal(cube, VALUES[..., ::-1])


@pytest.mark.parametrize("line", ["wavelength = {450, 550}\n", "wavelength units = GHz\n" + LIST])
def test_given_wavelengths_replace_unusable_ones(tmp_path, line):
    np.testing.assert_array_equal(read_cube(write(tmp_path, line), wavelengths="450:650:100")[1], NM)


def test_bands_are_sorted_with_all_that_belongs_to_them(tmp_path):
    """Two detectors that overlap, one of them backwards."""
    extra = "wavelength = {650, 450, 550}\ndata gain values = {1, 2, 4}\ndata offset values = {0, 1, 2}\n"
    cube = read_cube_file(write(tmp_path, extra))
    np.testing.assert_array_equal(cube.wavelengths, NM)
    np.testing.assert_allclose(cube.values, (VALUES * [1, 2, 4] + [0, 1, 2])[..., [1, 2, 0]])
    assert "bands sorted by wavelength" in cube.notes


def test_two_bands_of_one_wavelength_are_refused(tmp_path):
    with pytest.raises(InputError, match="two bands are at 550 nm"):
        read_cube(write(tmp_path, "wavelength = {550, 450, 550}\n"))


# What headers declare about the numbers


def test_ignored_values_are_missing(tmp_path):
    values = VALUES.copy()
    values[0, 0] = values[2, 3, 1] = -9999
    path = write(tmp_path, LIST + "data ignore value = -9999\n", values=values)
    cube, _ = read_cube(path, allow_missing=True)
    np.testing.assert_array_equal(cube, np.where(values == -9999, np.nan, values))
    with pytest.raises(InputError, match=r"4 of 60 values are .* missing, some by data ignore value = -9999"):
        read_cube(path)


@pytest.mark.parametrize(
    ("dtype", "code", "ignored", "stored"),
    [
        ("<f4", 4, "-3.402823e+38", -3.4028235e38),  # rounded in the header
        ("<f8", 5, "-1.7976931348623e+308", -1.7976931348623157e308),
        ("<i2", 2, "-32768", -32768),
        ("<u2", 12, "65535", 65535),
        ("<u1", 1, "0", 0),
        ("<i8", 14, "-9999", -9999),
    ],
)
def test_ignored_values_of_every_type(tmp_path, dtype, code, ignored, stored):
    values = np.ones((LINES, SAMPLES, BANDS))
    values[1, 2, 0] = stored
    path = write(tmp_path, LIST + f"data ignore value = {ignored}\n", values=values, dtype=dtype, code=code)
    assert np.argwhere(np.isnan(read_cube(path, allow_missing=True)[0])).tolist() == [[1, 2, 0]]


def test_an_ignored_value_that_the_type_cannot_hold_hides_nothing(tmp_path):
    path = write(tmp_path, LIST + "data ignore value = -9999\n", dtype="<u2", code=12)
    np.testing.assert_allclose(read_cube(path)[0], VALUES / 65535, rtol=1e-6)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("reflectance scale factor = 10000\n", VALUES / 10000),
        ("reflectance scale factor = 1.0\n", VALUES),
        ("data gain values = {2, 3, 4}\n", VALUES * [2, 3, 4]),
        ("data offset values = {1, 2, 3}\n", VALUES + [1, 2, 3]),
        ("data reflectance gain values = {0.1, 0.2, 0.3}\ndata gain values = {9, 9, 9}\n", VALUES * [0.1, 0.2, 0.3]),
        ("data reflectance offset values = {-0.1, 0, 0}\n", VALUES + [-0.1, 0, 0]),
        ("data gain values = {1, 1, 1}\nreflectance scale factor = 100\n", VALUES / 100),
        ("data units = Percent\n", VALUES / 100),
        ("data units = Reflectance x 10000\n", VALUES / 10000),
        ("reflectance scale factor = 1\nclasses = 0\n", VALUES),
        ("data ignore value = 0\nreflectance scale factor = 100\n", np.where(VALUES == 0, np.nan, VALUES / 100)),
    ],
)
def test_scales_are_applied_to_stored_numbers(tmp_path, extra, expected):
    path = write(tmp_path, LIST + extra, dtype="<u2", code=12)
    np.testing.assert_allclose(read_cube(path, allow_missing=True)[0], expected, rtol=1e-6)


def test_bad_bands_are_left_out(tmp_path):
    cube = read_cube_file(write(tmp_path, LIST + "bbl = {1, 0, 1}\ndata gain values = {1, 2, 4}\n"))
    np.testing.assert_array_equal(cube.wavelengths, [450, 650])
    np.testing.assert_array_equal(cube.values, VALUES[..., [0, 2]] * [1, 4])
    assert "1 of 3 bands left out: the file marks them as bad (bbl)" in cube.notes


@pytest.mark.parametrize("size", ["one member", "two members", "padded"])
def test_compressed_numbers(tmp_path, size):
    raw = VALUES.astype("<f4").tobytes()
    content = {
        "one member": gzip.compress(raw),
        "two members": gzip.compress(raw[:100]) + gzip.compress(raw[100:]),
        "padded": gzip.compress(raw) + bytes(2000),
    }[size]
    path = write(tmp_path, LIST + "file compression = 1\n", content=content)
    np.testing.assert_array_equal(read_cube(path)[0], VALUES)


def test_a_gzipped_data_file_beside_the_header(tmp_path):
    path = write(tmp_path, content=gzip.compress(VALUES.astype("<f4").tobytes()), data=".img.gz")
    np.testing.assert_array_equal(read_cube(path)[0], VALUES)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("file compression = 1\n", "declares file compression = 1, but this is not a gzip file"),
        ("file compression = 2\n", r"found file compression = 2; expected 0 or 1 \(gzip\)"),
        ("byte order = 7\n", "found byte order = 7; expected 0"),
        ("data ignore value = none\n", "not numeric for data ignore value"),
        ("data gain values = {1, 0, 2}\n", "found data gain or offset values that are 0 or not finite"),
        ("radiance scale factor = 100\n", "found radiance scale factor = 100; expected reflectance scale factor or"),
        ("correction factors = {2, 2, 2}\n", "found correction factors = "),
        ("classes = 3\n", "found classes = 3, which cannot be read"),
        ("data gain values = {1, 2}\n", "found 2 numbers for data gain values; expected one per band, 3"),
        ("data gain values = {2, 2, 2}\nreflectance scale factor = 10\n", "both reflectance scale factor and"),
        ("bbl = {0, 0, 0}\n", r"all 3 bands are marked as bad \(bbl\)"),
        ("bbl = {1, 0.5, 1}\n", "found bbl = 0.5 to 1; expected 0 or 1"),
        ("bbl = {1, 0}\n", "found 2 numbers for bbl; expected one per band, 3"),
        ("file type = ENVI Classification\n", "found file type = ENVI Classification; expected ENVI Standard"),
        ("file type = ENVI Spectral Library\n", "found file type = ENVI Spectral Library"),
        ("file type = TIFF\n", "file type = TIFF, but there is no cube with .tif"),
        ("major frame offsets = {0, 128}\n", "found major frame offsets = {0, 128}, which cannot be read"),
        ("minor frame offsets = {8, 0}\n", "found minor frame offsets"),
        ("read procedures = {a_reader, b_reader}\n", "found read procedures"),
        ("wavelength = {450, 550}\n", "found 2 numbers for wavelength; expected one per band, 3"),
        ("data type = 9\n", r"found data type 9 \(complex128\)"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(tmp_path, extra, message):
    with pytest.raises(InputError, match=message):
        read_cube(write(tmp_path, LIST + extra))


@pytest.mark.parametrize("extra", ["major frame offsets = {0, 0}\n", "file compression = 0\n", "bbl = {1, 1, 1}\n"])
def test_declarations_that_change_nothing_pass(tmp_path, extra):
    np.testing.assert_array_equal(read_cube(write(tmp_path, LIST + extra))[0], VALUES)


def test_a_short_gzip_bomb_is_refused(tmp_path):
    path = write(tmp_path, LIST + "file compression = 1\n", content=gzip.compress(bytes(10**6)))
    path.write_text(path.read_text().replace("lines = 4", "lines = 400000000"))
    with pytest.raises(InputError, match="its header claims"):
        read_cube(path)


# Names of files, and the text of the header


@pytest.mark.parametrize(
    ("header", "data", "given"),
    [
        *((".hdr", suffix, ".hdr") for suffix in (".hyspex", ".bin", ".pix", ".IMG", ".RAW", ".cube", "")),
        (".HDR", ".RAW", ".HDR"),
        (".bil.hdr", ".bil", ".bil.hdr"),
        (".bil.hdr", ".bil", ".bil"),
        (".hdr", ".raw", ".raw"),
        (".hdr", "", ""),
        (".HDR", ".IMG", ".IMG"),
        (".hyspex.hdr", ".hyspex", ".hyspex"),
        (".img.hdr", ".img", ".img"),
    ],
)
def test_header_and_data_find_each_other(tmp_path, header, data, given):
    write(tmp_path, header=header, data=data)
    (tmp_path / "cube.txt").write_text("not numbers")
    np.testing.assert_array_equal(read_cube(tmp_path / f"cube{given}")[0], VALUES)


def test_another_file_of_that_name_needs_the_right_size(tmp_path):
    path = write(tmp_path, data=".bin")
    (tmp_path / "cube.bin").write_bytes(bytes(10))
    with pytest.raises(InputError, match=r"no data file beside it; expected cube with .* any suffix and 240 bytes"):
        read_cube(path)


def test_the_choice_between_two_data_files_is_told(tmp_path):
    path = write(tmp_path)
    (tmp_path / "cube.dat").write_bytes(bytes(240))
    assert "numbers from cube.img, not from cube.dat" in read_cube_file(path).notes


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.upper(),
        lambda text: text.replace(b"650}", b"650,\n}"),
        lambda text: text.replace(b"450, 550, 650", b"450 550 650"),
        lambda text: text.replace(b"550,", b"550\n; the last\n,"),
        lambda text: text.replace(b"lines = 4", b"lines = 4 ; rows"),
        lambda text: text.replace(b"wavelength =", b"wavelengths ="),
        lambda text: text.replace(b"samples = 5", b"samples=5\n;samples = 7"),
        lambda text: text + b"description = {scan {4} \xb5m \xe9}\n",
    ],
)
def test_untidy_headers(tmp_path, change):
    path = write(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    cube, wavelengths = read_cube(path)
    np.testing.assert_array_equal(cube, VALUES)
    np.testing.assert_array_equal(wavelengths, NM)


def test_wavelengths_in_the_names_of_bands(tmp_path):
    cube = read_cube_file(write(tmp_path, "band names = {R = 450.0 nm, G (0.55 Micrometers), B 650 nm}\n"))
    np.testing.assert_allclose(cube.wavelengths, NM)
    assert cube.notes == ("wavelengths from the names of the bands",)


def test_an_esri_header_is_named(tmp_path):
    (tmp_path / "cube.hdr").write_text("NROWS 4\nNCOLS 5\nNBANDS 3\nLAYOUT BIL\n")
    with pytest.raises(InputError, match="an ESRI header; convert it with gdal_translate -of ENVI"):
        read_cube(tmp_path / "cube.hdr")


# Against other readers


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_what_gdal_writes(tmp_path, interleave, dtype):
    rasterio = pytest.importorskip("rasterio", reason="GDAL is the reference")
    pages = VALUES.transpose(2, 0, 1).clip(0, 250).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no georeference
        options = {"driver": "ENVI", "interleave": interleave, "nodata": 12}
        shape = {"width": SAMPLES, "height": LINES, "count": BANDS}
        with rasterio.open(tmp_path / "cube.img", "w", dtype=dtype, **shape, **options) as file:
            file.write(pages)
        with rasterio.open(tmp_path / "cube.img") as file:
            expected = file.read(masked=True).astype(float).filled(np.nan).transpose(1, 2, 0)
    scale = np.iinfo(dtype).max if dtype.startswith("u") else 1
    found = read_cube_file(tmp_path / "cube.hdr", wavelengths="450:650:100", allow_missing=True).values
    np.testing.assert_allclose(found, expected / scale, rtol=1e-6)
    assert np.isnan(found).any()


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("ext", ["", ".img", ".hyspex"])
def test_what_spectral_python_writes(tmp_path, interleave, ext):
    envi = pytest.importorskip("spectral.io.envi", reason="Spectral Python is the reference")
    metadata = {"wavelength": [f"{nm:g}" for nm in NM], "wavelength units": "nanometers"}
    metadata["reflectance scale factor"] = 50
    path = str(tmp_path / "cube.hdr")
    envi.save_image(path, VALUES.astype("i2"), metadata=metadata, interleave=interleave, ext=ext, force=True)
    found, wavelengths = read_cube(path)
    np.testing.assert_allclose(found, envi.open(path).read_subregion((0, LINES), (0, SAMPLES)), rtol=1e-6)
    np.testing.assert_array_equal(wavelengths, NM)
