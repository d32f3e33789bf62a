"""GDAL's sidecars NAME.EXT.aux.xml: applied like the tags of a TIFF, or refused by name."""

import warnings

import numpy as np
import pytest
import tifffile

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube_file, read_photo

NM = (450, 500, 550, 650)
STORED = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
SCALED = np.where(STORED == 7, np.nan, STORED * 0.5 + 2)
HEADER = "ENVI\nsamples = 5\nlines = 6\nbands = 4\ndata type = 2\ninterleave = bip\nbyte order = 0\n"
DECLARED = "<NoDataValue>7.0E+00</NoDataValue><Offset>2</Offset><Scale>0.5</Scale>"


def tiff(folder, *bands, **options):
    path = folder / "cube.tif"
    tifffile.imwrite(path, STORED, photometric="minisblack", planarconfig="contig", metadata=None, **options)
    return beside(path, *bands)


def envi(folder, *bands, fields=""):
    (folder / "cube.hdr").write_text(HEADER + fields)
    (folder / "cube.img").write_bytes(STORED.tobytes())
    return beside(folder / "cube.img", *bands)


def beside(path, *bands):
    """Writes a sidecar with the given content for each band, and statistics, which declare nothing."""
    statistics = "<Metadata><MDI key='STATISTICS_MAXIMUM'>9</MDI></Metadata><Histograms/>"
    parts = (f'<PAMRasterBand band="{i}">{band}{statistics}</PAMRasterBand>' for i, band in enumerate(bands, 1))
    text = f"<PAMDataset><Metadata domain='IMAGE_STRUCTURE'/>{''.join(parts)}</PAMDataset>"
    path.with_name(f"{path.name}.aux.xml").write_text(text)
    return path


def wavelengths(item="<Metadata><MDI key='wavelength'>{}</MDI></Metadata>"):
    return [DECLARED + item.format(nm) for nm in NM]


@pytest.mark.parametrize("write", [tiff, envi])
@pytest.mark.parametrize(
    "bands",
    [
        wavelengths(),
        wavelengths("<Metadata domain='IMAGERY'><MDI key='CENTRAL_WAVELENGTH_UM'>0.{}</MDI></Metadata>"),
        wavelengths("<Description>Band at {} nm</Description>"),
    ],
)
def test_what_a_sidecar_declares(tmp_path, write, bands):
    cube = read_cube_file(write(tmp_path, *bands), allow_missing=True)
    np.testing.assert_allclose(cube.values, SCALED)
    np.testing.assert_allclose(cube.wavelengths, NM)
    assert any("aux.xml: NoDataValue = 7: missing" in note for note in cube.notes)


@pytest.mark.parametrize("write", [tiff, envi])
def test_a_sidecar_of_statistics_changes_nothing(tmp_path, write):
    np.testing.assert_array_equal(read_cube_file(write(tmp_path, *[""] * 4)).values, STORED)


def test_a_sidecar_may_repeat_the_header(tmp_path):
    gains = "data gain values = {0.5, 0.5, 0.5, 0.5}\ndata offset values = {2, 2, 2, 2}\ndata ignore value = 7\n"
    cube = read_cube_file(envi(tmp_path, *[DECLARED] * 4, fields=gains), allow_missing=True)
    np.testing.assert_allclose(cube.values, SCALED)
    assert not any("GDAL" in note or "aux.xml" in note for note in cube.notes)
    with pytest.raises(InputError, match="its header or its sidecar scale the numbers in two ways; expected one"):
        read_cube_file(envi(tmp_path, *[DECLARED] * 4, fields="reflectance scale factor = 10\n"))


@pytest.mark.parametrize("write", [tiff, envi])
@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (["<Scale>x</Scale>"] * 4, "found GDAL's scale = x; expected a number"),
        (["<Scale>2</Scale>"] * 5, "found GDAL's scale for band 5; expected 4 bands"),
        (["<UnitType>%</UnitType>", "", "", ""], "found the units %, none in GDAL's metadata"),
        (["<NoDataValue>1</NoDataValue>", "<NoDataValue>2</NoDataValue>"], "no-data values 1.0, 2.0; expected one"),
        (["<Scale"], "aux.xml: found a sidecar that is not valid XML"),
        (['<!ENTITY a "b">'], "aux.xml: found a sidecar with a document type"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(tmp_path, write, bands, message):
    with pytest.raises(InputError, match=message):
        read_cube_file(write(tmp_path, *bands))


def test_the_tag_and_the_sidecar_must_agree(tmp_path):
    scale = '<GDALMetadata><Item role="scale" sample="0">{}</Item></GDALMetadata>'
    for number, message in ((0.5, None), (0.25, r"aux.xml: Scale = 0.5, but the file says 0.25")):
        tags = {"extratags": [(42112, "s", 0, scale.format(number), True)]}
        path = tiff(tmp_path, "<Scale>0.5</Scale>", **tags)
        if message is None:
            np.testing.assert_allclose(read_cube_file(path).values, STORED * [0.5, 1, 1, 1])
            continue
        with pytest.raises(InputError, match=message):
            read_cube_file(path)


@pytest.mark.parametrize("write", [tiff, envi])
def test_a_mask_beside_a_cube_is_refused(tmp_path, write):
    path = write(tmp_path)
    path.with_name(f"{path.name}.msk").write_bytes(b"II*")
    with pytest.raises(InputError, match=r"\.msk beside it is a mask, which cannot be applied"):
        read_cube_file(path)


def test_a_photo_with_a_scale_in_its_sidecar_is_refused(tmp_path):
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, np.ones((9, 8, 3), np.uint8), photometric="rgb")
    assert read_photo(beside(path, "", "", "")).codes.shape == (9, 8, 3)
    with pytest.raises(InputError, match=r"its GDAL_METADATA declares scale 0\.5"):
        read_photo(beside(path, "<Scale>0.5</Scale>"))


@pytest.mark.parametrize(("driver", "suffix"), [("GTiff", "tif"), ("ENVI", "img")])
def test_what_gdal_writes(tmp_path, driver, suffix):
    rasterio = pytest.importorskip("rasterio", reason="GDAL is the reference")
    shape = {"width": 5, "height": 6, "count": 4, "dtype": "int16", "driver": driver}
    options = {"PROFILE": "BASELINE"} if driver == "GTiff" else {}  # writes the metadata into a sidecar
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no georeference
        with rasterio.open(tmp_path / f"cube.{suffix}", "w", nodata=7, **shape, **options) as file:
            file.write(STORED.transpose(2, 0, 1))
            file.scales, file.offsets = (0.5, 1.5, 2.5, 3.5), (1, 2, 3, 4)
            for band, nm in enumerate(NM, 1):
                file.update_tags(band, wavelength=f"{nm}", wavelength_units="Nanometers")
        assert (tmp_path / f"cube.{suffix}.aux.xml").is_file()
        with rasterio.open(tmp_path / f"cube.{suffix}") as file:
            masked, scales, offsets = (
                file.read(masked=True).astype(float),
                np.array(file.scales),
                np.array(file.offsets),
            )
    expected = masked.filled(np.nan).transpose(1, 2, 0) * scales + offsets
    cube = read_cube_file(tmp_path / f"cube.{suffix}", allow_missing=True)
    np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
    np.testing.assert_allclose(cube.wavelengths, NM)
