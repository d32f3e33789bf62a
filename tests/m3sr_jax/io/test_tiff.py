import numpy as np
import pytest
import tifffile

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, read_cube_file
from m3sr_jax.io.tiff import read_tiff, tiff_writer
from m3sr_jax.io.wavelengths import BANDS

NM = np.linspace(450.0, 650.0, 4)


@pytest.fixture
def pages():
    return np.random.default_rng(0).uniform(0, 1, (4, 5, 6)).astype(np.float32)


def test_rows_in_any_order_become_pages(tmp_path, pages):
    path, cube = tmp_path / "cube.tif", pages.transpose(1, 2, 0)
    with tiff_writer(path, cube.shape, NM, np.dtype(np.float32), None) as put:
        put(3, cube[3:])
        put(0, cube[:3])
        assert not path.exists()
    with tifffile.TiffFile(path) as file:
        assert [page.shape for page in file.pages] == [(5, 6)] * 4
        np.testing.assert_array_equal(file.asarray(), pages)
    stored = read_tiff(path)
    np.testing.assert_array_equal(stored.values, cube)
    np.testing.assert_array_equal(stored.centres, NM)


def test_31_pages_without_wavelengths_are_bands(tmp_path):
    pages = np.arange(31 * 5 * 6, dtype=np.uint16).reshape(31, 5, 6)
    tifffile.imwrite(tmp_path / "cube.tif", pages, photometric="minisblack", metadata=None)
    assert read_tiff(tmp_path / "cube.tif").centres is None
    codes, wavelengths = read_cube(tmp_path / "cube.tif")
    np.testing.assert_array_equal(codes, pages.transpose(1, 2, 0) / np.float32(65535))
    np.testing.assert_array_equal(wavelengths, BANDS)


def test_other_pages_keep_their_order(tmp_path, pages):
    tifffile.imwrite(tmp_path / "cube.tif", pages, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(read_tiff(tmp_path / "cube.tif").values, pages)


def test_samples_of_a_pixel_stay_last(tmp_path):
    pixels = np.arange(31 * 6 * 4, dtype=np.uint8).reshape(31, 6, 4)  # 31 rows, not 31 bands
    tifffile.imwrite(tmp_path / "photo.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    stored = read_tiff(tmp_path / "photo.tif")
    np.testing.assert_array_equal(stored.values, pixels)
    assert stored.bands_axis == 2
    found = read_cube_file(tmp_path / "photo.tif")
    np.testing.assert_allclose(found.values, pixels / 255, rtol=1e-6)
    assert found.wavelengths is None


def test_pages_may_be_rows(tmp_path):
    """tifffile writes an array (H, W, 31) as H pages."""
    rows = np.arange(6 * 4 * 31, dtype=np.float32).reshape(6, 4, 31)
    tifffile.imwrite(tmp_path / "cube.tif", rows, photometric="minisblack")
    np.testing.assert_array_equal(read_cube(tmp_path / "cube.tif")[0], rows)


def test_one_page_is_not_a_cube(tmp_path, pages):
    tifffile.imwrite(tmp_path / "page.tif", pages[0])
    with pytest.raises(InputError, match=r"found an image of shape \(5, 6\); expected one page per band"):
        read_tiff(tmp_path / "page.tif")


@pytest.mark.parametrize("described", [500.0, [[450.0, 500.0], [600.0, 650.0]]])
def test_wavelengths_of_another_shape_are_flattened(tmp_path, pages, described):
    metadata = {"axes": "CYX", "wavelengths": described}
    tifffile.imwrite(tmp_path / "cube.tif", pages, photometric="minisblack", metadata=metadata)
    np.testing.assert_array_equal(read_tiff(tmp_path / "cube.tif").centres, np.ravel(described))
