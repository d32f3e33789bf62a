"""What the tags of a TIFF declare: applied, or refused by name."""

import warnings

import numpy as np
import pytest
import tifffile

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.io.cubes import read_cube_file

NM = np.array([450.0, 500.0, 550.0, 650.0])
PAGES = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)


def items(name, values, role="", extra=""):
    kind = f' role="{role}"' if role else ""
    start = f'<Item name="{name}"{kind}{extra} sample='
    return "".join(f'{start}"{band}">{value}</Item>' for band, value in enumerate(values))


def write(folder, metadata="", nodata=None, values=None, **options):
    tags = [(42112, "s", 0, f"<GDALMetadata>{metadata}</GDALMetadata>", True)] if metadata else []
    tags += options.pop("extratags", [])
    tags += [(42113, "s", 0, nodata, True)] if nodata is not None else []
    values = PAGES.transpose(1, 2, 0) if values is None else values
    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None, **options}
    tifffile.imwrite(folder / "cube.tif", values, extratags=tags, **options)
    return folder / "cube.tif"


@pytest.mark.parametrize(
    "metadata",
    [
        items("wavelength", NM) + items("wavelength_units", ["Nanometers"] * 4),
        items("wavelength", NM / 1000) + items("wavelength_units", ["Micrometers"] * 4),
        items("WAVELENGTH", NM / 1000),
        items("CENTRAL_WAVELENGTH_UM", NM / 1000, extra=' domain="IMAGERY"'),
        items("DESCRIPTION", [f"Band {nm} ({nm} Nanometers)" for nm in NM], role="description"),
        items("wavelength", NM) + '<Item name="wavelength_units">nm</Item>',
    ],
)
def test_wavelengths_of_the_bands(tmp_path, metadata):
    cube = read_cube_file(write(tmp_path, metadata))
    np.testing.assert_allclose(cube.wavelengths, NM)
    np.testing.assert_array_equal(cube.values, PAGES.transpose(1, 2, 0))
    assert any("wavelengths from" in note for note in cube.notes)


def test_scale_offset_and_nodata(tmp_path):
    metadata = items("SCALE", [0.5, 1, 2, 4], "scale") + items("OFFSET", [0, 1, 2, 3], "offset")
    found = read_cube_file(write(tmp_path, metadata, nodata="7"), wavelengths="450,500,550,650", allow_missing=True)
    stored = PAGES.transpose(1, 2, 0)
    expected = np.where(stored == 7, np.nan, stored * [0.5, 1, 2, 4] + [0, 1, 2, 3])
    np.testing.assert_allclose(found.values, expected)
    assert {"GDAL's scale and offset applied", "GDAL_NODATA = 7: missing"} <= set(found.notes)


@pytest.mark.parametrize(
    ("unit", "divisor"),
    [
        ("%", 100),
        ("percent", 100),
        ("Percent reflectance", 100),
        ("Reflectance [%]", 100),
        ("reflectance x 10000", 1e4),
        ("W m-2 sr-1 nm-1", 1),
    ],
)
def test_units_that_divide(tmp_path, unit, divisor):
    path = write(tmp_path, items("UNITTYPE", [unit] * 4, "unittype"))
    np.testing.assert_allclose(read_cube_file(path).values, PAGES.transpose(1, 2, 0) / divisor, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodata": "x"}, "found GDAL_NODATA = x; expected a number"),
        ({"metadata": items("SCALE", ["x"], "scale")}, "found GDAL's scale = x; expected a number"),
        ({"metadata": items("SCALE", [1] * 5, "scale")}, "found GDAL's scale for band 5; expected 4 bands"),
        ({"metadata": "<Item"}, "GDAL_METADATA that is not valid XML"),
        (
            {"metadata": items("UNITTYPE", "%%m%", "unittype")},
            "found the units %, m in GDAL's metadata; expected one",
        ),
        ({"metadata": '<Item name="bbl">{0, 1}</Item>'}, "found 2 numbers for bbl; expected one per band, 4"),
        ({"metadata": '<!ENTITY a "b"><Item/>'}, "GDAL_METADATA with a document type"),
        ({"extratags": [(274, "H", 1, 6, True)]}, "found Orientation 6; expected 1"),
        ({"extratags": [(50706, "B", 4, (1, 4, 0, 0), True)]}, r"found DNGVersion \(tag 50706\)"),
        ({"subfiletype": 1}, r"found a reduced image \(NewSubfileType 1\)"),
        ({"photometric": "miniswhite"}, "found PhotometricInterpretation MINISWHITE .*; expected BlackIsZero or RGB"),
        ({"photometric": "separated"}, "found PhotometricInterpretation SEPARATED"),
        ({"photometric": "cielab", "values": PAGES[:3].transpose(1, 2, 0).astype("u1")}, "Interpretation CIELAB"),
        ({"values": PAGES.transpose(1, 2, 0).astype("c8")}, r"found complex64 values \(SampleFormat"),
        ({"extrasamples": ["unassalpha"], "photometric": "rgb"}, r"found an alpha channel \(ExtraSamples\)"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        read_cube(write(tmp_path, **options), wavelengths="450,500,550,650")


def test_fields_of_an_envi_header_that_gdal_kept(tmp_path):
    fields = {"reflectance_scale_factor": "100", "data_ignore_value": "7", "bbl": "{1, 0, 1, 1}"}
    fields |= {"wavelength": "{0.45, 0.5, 0.55, 0.65}", "wavelength_units": "Micrometers"}
    metadata = "".join(f'<Item name="{name}" domain="ENVI">{text}</Item>' for name, text in fields.items())
    cube = read_cube_file(write(tmp_path, metadata), allow_missing=True)
    stored = PAGES.transpose(1, 2, 0)[..., [0, 2, 3]]
    np.testing.assert_allclose(cube.values, np.where(stored == 7, np.nan, stored / 100), rtol=1e-6)
    np.testing.assert_allclose(cube.wavelengths, NM[[0, 2, 3]])


def test_bad_bands_by_item(tmp_path):
    cube = read_cube_file(write(tmp_path, items("wavelength", NM) + items("bbl", [0, 1, 1, 1])))
    np.testing.assert_array_equal(cube.wavelengths, NM[1:])


def test_wavelengths_of_some_bands_are_refused(tmp_path):
    path = write(tmp_path, items("wavelength", NM[:3]))
    with pytest.raises(InputError, match="found wavelength for 3 of 4 bands; expected one per band"):
        read_cube_file(path)
    np.testing.assert_array_equal(read_cube(path, wavelengths="450,500,550,650")[1], NM)


@pytest.mark.parametrize(("names", "centres"), [(NM, NM), (NM / 1000, NM), (range(1, 5), None), ((1, 2, 3, 9), None)])
def test_descriptions_that_are_numbers(tmp_path, names, centres):
    cube = read_cube_file(write(tmp_path, items("DESCRIPTION", names, "description")))
    assert cube.wavelengths is None if centres is None else np.allclose(cube.wavelengths, centres)


def test_twelve_bits_in_sixteen(tmp_path):
    pytest.importorskip("imagecodecs", reason="writes and reads packed integers")
    codes = PAGES.transpose(1, 2, 0).astype("u2") * 30
    try:
        path = write(tmp_path, values=codes, bitspersample=12)
    except NotImplementedError:
        pytest.skip("this imagecodecs reads packed integers and does not write them")
    np.testing.assert_allclose(read_cube(path, wavelengths="450,500,550,650")[0], codes / 4095, rtol=1e-6)


def test_an_internal_mask_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "cube.tif") as file:
        file.write(PAGES.transpose(1, 2, 0), photometric="minisblack", planarconfig="contig", metadata=None)
        file.write(np.ones((6, 5), bool), photometric="mask", subfiletype=4, metadata=None)
    with pytest.raises(InputError, match=r"found a mask \(NewSubfileType 4\)"):
        read_cube(tmp_path / "cube.tif", wavelengths="450,500,550,650")


def test_a_calibrated_imagej_stack_is_refused(tmp_path):
    description = "ImageJ=1.53\nimages=4\nslices=4\ncf=0\nc0=1.0\nc1=2.0\nvunit=reflectance\n"
    path = write(tmp_path, values=PAGES.astype("u2"), description=description, planarconfig=None)
    with pytest.raises(InputError, match="found an ImageJ calibration function"):
        read_cube(path, wavelengths="450,500,550,650")


@pytest.mark.parametrize("given", ["cube.tif", "cube.hdr"])
@pytest.mark.parametrize("kind", ["TIFF", "ENVI Standard"])
def test_an_envi_header_beside_a_tiff(tmp_path, given, kind):
    write(tmp_path)
    (tmp_path / "cube.hdr").write_text(
        f"ENVI\nsamples = 5\nlines = 6\nbands = 4\nfile type = {kind}\ndata type = 2\ninterleave = bip\n"
        "wavelength units = nm\nwavelength = {450, 500, 550, 650}\ndata ignore value = 3\n"
    )
    if (given, kind) == ("cube.hdr", "ENVI Standard"):  # says that raw numbers are beside it
        with pytest.raises(InputError, match="no data file beside it"):
            read_cube(tmp_path / given)
        return
    cube = read_cube_file(tmp_path / given, allow_missing=True)
    np.testing.assert_array_equal(cube.wavelengths, NM)
    assert np.isnan(cube.values).sum() == 1
    assert "wavelengths from cube.hdr" in cube.notes


def test_a_header_of_other_bands_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "cube.hdr").write_text("ENVI\nsamples = 5\nlines = 6\nbands = 7\nfile type = TIFF\n")
    with pytest.raises(InputError, match=r"found 7 bands; expected 4 as in cube.tif"):
        read_cube(tmp_path / "cube.tif")


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_what_gdal_writes(tmp_path, interleave, options):
    rasterio = pytest.importorskip("rasterio", reason="GDAL is the reference")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no georeference
        shape = {"width": 5, "height": 6, "count": 4, "dtype": "int16", "nodata": -9}
        pages = np.where(PAGES == 50, -9, PAGES)
        options = shape | options | {"driver": "GTiff", "interleave": interleave}
        with rasterio.open(tmp_path / "cube.tif", "w", **options) as file:
            file.write(pages)
            file.scales, file.offsets = (0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4)
            for band, nm in enumerate(NM, 1):
                file.update_tags(band, wavelength=f"{nm}", wavelength_units="Nanometers")
        with rasterio.open(tmp_path / "cube.tif") as file:
            masked = file.read(masked=True).astype(float)
            scales, offsets = (np.array(part)[:, None, None] for part in (file.scales, file.offsets))
    expected = (masked * scales + offsets).filled(np.nan).transpose(1, 2, 0)
    cube, wavelengths = read_cube(tmp_path / "cube.tif", allow_missing=True)
    np.testing.assert_allclose(cube, expected, rtol=1e-6)
    np.testing.assert_array_equal(wavelengths, NM)
