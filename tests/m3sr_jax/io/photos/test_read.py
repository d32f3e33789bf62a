import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from m3sr_jax.io.photos import pillow


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3)).astype(np.uint8)


def assert_reads(path, expected):
    found = read_rgb(path)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_8_bit_colours(tmp_path, codes, suffix):
    Image.fromarray(codes).save(tmp_path / f"photo{suffix}")
    assert_reads(tmp_path / f"photo{suffix}", codes / np.float32(255))


def test_jpeg_is_what_pillow_decodes(tmp_path, codes):
    Image.fromarray(codes).resize((64, 48)).save(tmp_path / "photo.jpg", quality=90)
    with Image.open(tmp_path / "photo.jpg") as image:
        assert_reads(tmp_path / "photo.jpg", np.asarray(image) / np.float32(255))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_becomes_three_channels(tmp_path, suffix, dtype):
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 17)).astype(dtype)
    Image.fromarray(grey).save(tmp_path / f"photo{suffix}")
    assert_reads(tmp_path / f"photo{suffix}", np.tile(grey[..., None] / np.float32(np.iinfo(dtype).max), (1, 1, 3)))


@pytest.mark.parametrize("layout", ["rgb", "rgba", "planes"])
def test_16_bit_colour_tiff_keeps_all_bits(tmp_path, layout):
    wide = np.random.default_rng(0).integers(0, 65536, (12, 17, 4 if layout == "rgba" else 3)).astype(np.uint16)
    pixels = np.moveaxis(wide, -1, 0) if layout == "planes" else wide
    extra = {"rgba": {"extrasamples": ["unassalpha"]}, "planes": {"planarconfig": "separate"}}.get(layout, {})
    tifffile.imwrite(tmp_path / "photo.tif", pixels, photometric="rgb", **extra)
    assert_reads(tmp_path / "photo.tif", wide[..., :3] / np.float32(65535))


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_png_keeps_all_bits(tmp_path, channels):
    wide = np.random.default_rng(0).integers(0, 65536, (12, 17, channels)).astype(">u2")

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 17, 12, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    # Rows filtered by "Sub" hold differences to the pixel before, byte by byte.
    stored = wide.view(np.uint8).reshape(12, -1)
    step = 2 * channels
    stored = np.concatenate([stored[:, :step], stored[:, step:] - stored[:, :-step]], axis=1)
    rows = b"".join(b"\1" + row.tobytes() for row in stored)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    assert_reads(tmp_path / "photo.png", wide[..., :3].astype(np.float32) / np.float32(65535))


def test_alpha_is_dropped_and_not_blended(tmp_path, codes):
    alpha = np.full((12, 17, 1), 3, np.uint8)
    Image.fromarray(np.concatenate([codes, alpha], axis=-1)).save(tmp_path / "photo.png")
    assert_reads(tmp_path / "photo.png", codes / np.float32(255))


def test_palettes_become_colours(tmp_path, codes):
    paletted = Image.fromarray(codes).quantize(16)
    for transparency in (None, bytes(range(16))):  # of each colour
        paletted.save(tmp_path / "photo.png", transparency=transparency)
        assert_reads(tmp_path / "photo.png", np.asarray(paletted.convert("RGB")) / np.float32(255))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
def test_other_modes_have_three_channels_in_range(tmp_path, codes, mode):
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    Image.fromarray(codes).convert(mode).save(path)
    found = read_rgb(path)
    assert found.shape == (12, 17, 3)
    assert found.max() > 0.5
    if mode != "CMYK":
        np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(tmp_path, codes, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(codes).save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as image:
        assert_reads(tmp_path / "photo.png", np.asarray(ImageOps.exif_transpose(image)) / np.float32(255))
    turned = ("turned upright, as its orientation says",) if orientation > 1 else ()
    assert read_photo(tmp_path / "photo.png").notes == turned
    wide = codes.astype(np.uint16) * 200
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "photo.tif", wide, photometric="rgb", metadata=None, extratags=[tag])
    expected = read_rgb(tmp_path / "photo.png") * np.float32(255 * 200 / 65535)
    np.testing.assert_allclose(read_rgb(tmp_path / "photo.tif"), expected, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_photos_are_turned_upright(tmp_path, suffix):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # bright on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what was left belongs on top
    Image.fromarray(pixels).save(tmp_path / f"photo{suffix}", exif=exif)
    found = read_rgb(tmp_path / f"photo{suffix}")
    assert found.shape == (32, 16, 3)
    assert found[:12].min() > 0.9
    assert found[20:].max() < 0.1


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ARAD_1K_0912.jpg", (482, 512, 3)),
        ("sample_hs_img_001_clean.png", (482, 512, 3)),
        ("sample_hs_img_001_realWorld.jpg", (482, 512, 3)),
        ("BGU_HS_00257_clean.png", (1392, 1300, 3)),
    ],
)
def test_real_photos(name, shape):
    if "M3SR_DATA_DIR" not in os.environ:
        pytest.skip("set M3SR_DATA_DIR to a folder with rgb/ to read real photos")
    found = read_rgb(Path(os.environ["M3SR_DATA_DIR"]) / "rgb" / name)
    assert found.shape in (shape, (shape[1], shape[0], 3))
    assert 0.05 < found.mean() < 0.8


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".xyz"])
def test_missing_damaged_and_foreign_files_are_named(tmp_path, codes, suffix):
    path = tmp_path / f"photo{suffix}"
    with pytest.raises(InputError, match="there is no such file"):
        read_rgb(path)
    for content in (b"", b"no image" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as an image") as caught:
            read_rgb(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    if suffix != ".xyz":
        Image.fromarray(codes).save(path)
        path.write_bytes(path.read_bytes()[:-150])
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_rgb(path)


def test_a_folder_is_not_a_photo(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_rgb(tmp_path)


def test_float_images_beyond_one_and_cubes_are_not_photos(tmp_path):
    tifffile.imwrite(tmp_path / "float.tif", np.full((12, 17), 1.5, np.float32))
    with pytest.raises(InputError, match=r"found float32 values from 1.5 to 1.5; expected \[0, 1\]"):
        read_rgb(tmp_path / "float.tif")
    tifffile.imwrite(tmp_path / "cube.tif", np.ones((31, 12, 17), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="found 31 pages; expected a photo of one page"):
        read_rgb(tmp_path / "cube.tif")


def test_photos_have_a_limit_of_our_own(tmp_path, monkeypatch, codes):
    """Pillow's own limit, of 89 megapixels, does not apply."""
    Image.fromarray(codes).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert_reads(tmp_path / "photo.png", codes / np.float32(255))
    monkeypatch.setattr(pillow, "MAX_PIXELS", 10)
    with pytest.raises(InputError, match="found 12×17 pixels; expected at most"):
        read_rgb(tmp_path / "photo.png")
