"""TIFF photos: compressions, sample types, the page that is the photo, and every tag that says what numbers mean."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from m3sr_jax.io.photos import image_size
from tests.m3sr_jax.io.photos import files

WIDE = np.random.default_rng(0).integers(0, 65536, (24, 40, 3)).astype(np.uint16)
UNIT = WIDE / np.float32(65535)


@pytest.fixture
def write(tmp_path):
    """Writes a TIFF and returns its path."""

    def make(samples, **options):
        tifffile.imwrite(tmp_path / "photo.tif", samples, metadata=None, **{"photometric": "rgb"} | options)
        return tmp_path / "photo.tif"

    return make


def short(code, *values):
    return (code, 3, len(values), values if len(values) > 1 else values[0], True)


def rational(code, *values):
    pairs = tuple(int(part) for value in values for part in (round(value * 10000), 10000))
    return (code, 5, len(values), pairs, True)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big-endian"])
def test_compressions(write, compression, layout):
    options = {
        "strips": {"rowsperstrip": 5},
        "tiles": {"tile": (16, 16)},
        "planes": {"planarconfig": "separate"},
        "big-endian": {"byteorder": ">"},
    }[layout]
    predictor = compression != "packbits" and layout != "planes"
    samples = np.moveaxis(WIDE, -1, 0) if layout == "planes" else WIDE
    path = write(samples, compression=compression, predictor=predictor, **options)
    np.testing.assert_array_equal(read_rgb(path), UNIT)
    np.testing.assert_array_equal(read_photo(path).codes, WIDE)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("predictor", [False, True])
def test_float_samples(write, dtype, predictor):
    path = write(UNIT.astype(dtype), compression="zlib", predictor=predictor)
    np.testing.assert_array_equal(read_rgb(path), UNIT.astype(dtype).astype(np.float32))
    assert read_photo(path).notes == ("float samples without a profile taken as sRGB-encoded",)


@pytest.mark.parametrize("bad", [-0.1, 1.2, np.nan, np.inf])
def test_floats_outside_zero_to_one_are_refused(write, bad):
    values = UNIT.copy()
    values[3, 4, 1] = bad
    with pytest.raises(InputError, match=r"photo.tif: found float32 values from .*; expected \[0, 1\]"):
        read_rgb(write(values))


def test_32_bit_integers(write):
    np.testing.assert_allclose(read_rgb(write(WIDE.astype(np.uint32) * np.uint32(65537))), UNIT, atol=1e-7)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_packed_bits_are_scaled_by_their_own_largest_value(tmp_path, bits):
    codes = np.random.default_rng(0).integers(0, 2**bits, (9, 16)).astype(np.uint16 if bits > 8 else np.uint8)
    packed = np.packbits(codes[..., None] >> np.arange(bits, dtype=codes.dtype)[::-1] & 1).tobytes()
    path = tmp_path / "photo.tif"
    tifffile.imwrite(
        path, iter([packed]), shape=(9, 16), dtype=codes.dtype, bitspersample=bits, photometric="minisblack",
        metadata=None, rowsperstrip=9,
    )  # fmt: skip
    np.testing.assert_allclose(read_rgb(path)[..., 0], codes / (2**bits - 1), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.complex64])
def test_signed_and_complex_samples_are_refused(write, dtype):
    with pytest.raises(InputError, match=r"photo.tif: found .*(signed|complex).* samples"):
        read_rgb(write(np.ones((9, 10), dtype), photometric="minisblack"))


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey(write, white_is_zero, dtype):
    grey = (WIDE[..., 0] >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    largest = np.iinfo(dtype).max
    path = write(largest - grey if white_is_zero else grey, photometric="miniswhite" if white_is_zero else "minisblack")
    expected = np.repeat((grey / np.float32(largest))[..., None], 3, -1)
    np.testing.assert_array_equal(read_rgb(path), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_three_black_is_zero_samples_are_rgb(write, dtype):
    """What rasterio and GDAL write for three bands of 16 bits."""
    samples = UNIT if dtype == np.float32 else (WIDE >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    photo = read_photo(write(samples, photometric="minisblack", planarconfig="contig"))
    np.testing.assert_array_equal(photo.codes, samples)
    assert "three black-is-zero samples read as red, green and blue" in photo.notes


def test_premultiplied_alpha_behind_another_sample(write):
    alpha = np.full_like(WIDE[..., :1], 32768)
    samples = np.concatenate([WIDE // 2, WIDE[..., :1], alpha], -1)
    photo = read_photo(write(samples, photometric="rgb", extrasamples=["unspecified", "assocalpha"]))
    np.testing.assert_allclose(photo.rgb, WIDE / 65535, atol=2 / 65535)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("<Item name='S' sample='0' role='scale'>0.1</Item>", "its GDAL_METADATA declares scale 0.1"),
        ('<Item name="U" sample="0" role="unittype">%</Item>', "its GDAL_METADATA declares unittype %"),
        (
            "".join(f'<Item name="wavelength" sample="{i}">{nm}</Item>' for i, nm in enumerate((450, 550, 650))),
            "its samples are named 450, 550, 650; expected red, green and blue",
        ),
    ],
)
def test_gdals_metadata_are_refused_by_name(write, items, message):
    tags = [(42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)]
    with pytest.raises(InputError, match=message):
        read_rgb(write(WIDE, photometric="minisblack", planarconfig="contig", extratags=tags))


@pytest.mark.filterwarnings("ignore::Warning")  # rasterio's, of a photo without a place on Earth
def test_rasterio_and_gdal(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="writes GeoTIFF as GDAL does")

    def write(values, names=None, **options):
        height, width, count = values.shape
        fields = {"height": height, "width": width, "count": count, "dtype": values.dtype.name} | options
        with rasterio.open(tmp_path / "photo.tif", "w", driver="GTiff", **fields) as file:
            file.write(np.moveaxis(values, -1, 0))
            for i, name in enumerate(names or ()):
                file.set_band_description(i + 1, name)
        return tmp_path / "photo.tif"

    for options in ({}, {"compress": "lzw", "predictor": 2}, {"compress": "zstd", "interleave": "band"}):
        np.testing.assert_array_equal(read_photo(write(WIDE, **options)).codes, WIDE)
    four = np.concatenate([WIDE, WIDE[..., :1]], -1)
    np.testing.assert_array_equal(read_photo(write(four)).codes, WIDE)
    turned = read_photo(write(WIDE[..., ::-1], ("Blue", "Green", "Red")))
    np.testing.assert_array_equal(turned.codes, WIDE)
    assert "samples 3, 2, 1 are named red, green and blue" in turned.notes
    with pytest.raises(InputError, match="its samples are named NIR, red edge, red; expected red, green and blue"):
        read_rgb(write(WIDE, ("NIR", "red edge", "red")))
    with pytest.raises(InputError, match="found 7 samples a pixel"):
        read_rgb(write(np.concatenate([WIDE, four], -1)))
    gaps = WIDE.copy()
    gaps[:3] = 0
    assert "120 pixels hold the no-data value 0 and were read as colours" in read_photo(write(gaps, nodata=0)).notes
    with rasterio.open(write(WIDE), "r+") as file:
        file.scales = (0.0001,) * 3
    with pytest.raises(InputError, match="its GDAL_METADATA declares scale"):
        read_rgb(tmp_path / "photo.tif")


@pytest.mark.filterwarnings("ignore::Warning")  # rasterio's, of a photo without a place on Earth
def test_overviews_and_a_mask_inside_a_geotiff_are_passed_over(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="writes overviews")
    big = np.random.default_rng(0).integers(0, 256, (3, 96, 128)).astype(np.uint8)
    path = tmp_path / "photo.tif"
    with rasterio.open(path, "w", driver="GTiff", height=96, width=128, count=3, dtype="uint8", tiled=True,
                       blockxsize=16, blockysize=16) as file:  # fmt: skip
        file.write(big)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(big[0] > 100)
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    np.testing.assert_array_equal(read_photo(path).codes, np.moveaxis(big, 0, -1))
    assert image_size(path) == (96, 128)


@pytest.mark.parametrize("order", ["first", "last", "inside"])
def test_the_full_page_among_thumbnails(tmp_path, order):
    path = tmp_path / "photo.tif"
    with tifffile.TiffWriter(path) as file:
        small = {"photometric": "rgb", "subfiletype": 1, "metadata": None}
        if order != "first":
            file.write(WIDE[::4, ::4], subifds=order == "inside" or None, **small)
        file.write(WIDE, photometric="rgb", subfiletype=0, metadata=None)
        if order == "first":
            file.write(WIDE[::4, ::4], **small)
    np.testing.assert_array_equal(read_photo(path).codes, WIDE)
    assert image_size(path) == (24, 40)


def test_an_infrared_page_is_passed_over(tmp_path):
    path = tmp_path / "photo.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(WIDE, photometric="rgb", subfiletype=0, metadata=None)
        file.write(WIDE[..., 0], photometric="minisblack", subfiletype=2, metadata=None)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.codes, WIDE)
    assert photo.notes == ("the full page was read, 1 page passed over",)


def test_several_full_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "photo.tif", np.stack([WIDE, WIDE]), photometric="rgb")
    with pytest.raises(InputError, match="found 2 pages; expected a photo of one page"):
        read_rgb(tmp_path / "photo.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_premultiplied_alpha_is_divided_out(write, dtype):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    colours = UNIT * np.float32(white)
    alpha = np.full((24, 40, 1), 0.5 * white)
    alpha[0, 0] = 0
    stored = np.concatenate([colours * alpha / white, alpha], -1).astype(dtype)
    photo = read_photo(write(stored, extrasamples=["assocalpha"]))
    expected = np.where(alpha > 0, UNIT, 0)
    np.testing.assert_allclose(photo.rgb, expected, atol=3 / 255 if dtype == np.uint8 else 1e-4)
    assert "premultiplied alpha divided out" in photo.notes


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
def test_other_extra_samples_are_dropped(write, extra):
    stored = np.concatenate([WIDE, np.full((24, 40, 1), 9, np.uint16)], -1)
    np.testing.assert_array_equal(read_photo(write(stored, extrasamples=[extra])).codes, WIDE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_without_a_profile(write, dtype):
    inks = (np.concatenate([WIDE, WIDE[::-1, :, :1]], -1) >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    paper = 1 - inks / np.float64(np.iinfo(dtype).max)
    photo = read_photo(write(inks, photometric="separated"))
    np.testing.assert_allclose(photo.rgb, paper[..., :3] * paper[..., 3:], atol=1 / 255)
    assert photo.notes == ("CMYK without a profile mixed as (1 - ink)(1 - black)",)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["cielab", "icclab"])
def test_lab_as_by_littlecms(write, bits, kind):
    """From an L* of 5 on: below it sRGB's line amplifies the rounding of a* and b*."""
    rng = np.random.default_rng(0)
    lab = np.stack([rng.integers(10, 96, (9, 11)), *rng.integers(-30, 31, (2, 9, 11))], -1).astype(np.float64)
    d50, srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), imagecodecs.cms_profile("srgb")
    expected = imagecodecs.cms_transform(lab, d50, srgb, colorspace="lab", outcolorspace="rgb", outdtype="float64")
    unit, half = 2 ** (bits - 8), 2 ** (bits - 1)
    light = lab[..., :1] / 100 * (0xFF00 if (kind, bits) == ("icclab", 16) else 2**bits - 1)
    stored = np.concatenate([light, (lab[..., 1:] * unit + (half if kind == "icclab" else 0)) % 2**bits], -1)
    path = write(np.rint(stored).astype(f"u{bits // 8}"), photometric=kind)
    photo = read_photo(path)
    np.testing.assert_allclose(photo.rgb, np.clip(expected, 0, 1), atol=3 / 255)
    assert "CIE L*a*b* (D50) converted to sRGB" in photo.notes


def test_palettes_of_8_and_16_bits(write):
    indices = np.random.default_rng(0).integers(0, 256, (9, 10)).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    found = read_rgb(write(indices, photometric="palette", colormap=colours))
    np.testing.assert_array_equal(found, colours.T[indices] / np.float32(65535))


def test_palettes_of_one_bit(tmp_path):
    indices = np.random.default_rng(0).integers(0, 2, (9, 10))
    colours = np.array([[65535, 0], [0x1234, 65535], [7, 0]])
    rows = np.packbits(indices.astype(bool), axis=1).tobytes()
    tags = {256: 10, 257: 9, 258: 1, 259: 1, 262: 3, 273: 146, 277: 1, 278: 9, 279: len(rows)}
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
    entries += struct.pack("<HHIII", 320, 3, 6, 134, 0)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + entries
    (tmp_path / "photo.tif").write_bytes(head + struct.pack("<6H", *colours.ravel()) + rows)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.tif").codes, colours.T[indices])


def test_a_palette_of_8_bit_numbers_in_16_bits(write):
    indices = np.arange(90, dtype=np.uint8).reshape(9, 10)
    colours = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    photo = read_photo(write(indices, photometric="palette", colormap=colours))
    np.testing.assert_array_equal(photo.codes, colours.T[indices])
    assert "colours of the palette up to 255 taken for 8-bit ones" in photo.notes


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_compression(write, subsampling):
    smooth = np.kron(files.chart(4), np.ones((16, 16, 1), np.uint8))
    ycc = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    path = write(ycc, photometric="ycbcr", compression="jpeg", subsampling=subsampling, compressionargs={"level": 95})
    np.testing.assert_array_equal(read_photo(path).codes, tifffile.imread(path))
    path = write(smooth, compression="jpeg", compressionargs={"level": 98})
    with Image.open(path) as image:
        np.testing.assert_allclose(read_rgb(path), np.asarray(image) / 255, atol=2 / 255)


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_ycbcr_without_jpeg(write, compression):
    smooth = np.kron(files.chart(4), np.ones((16, 16, 1), np.uint8))
    ycc = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    path = write(ycc, photometric="ycbcr", subsampling=(1, 1), compression=compression, extratags=[short(274, 6)])
    np.testing.assert_allclose(read_rgb(path), np.rot90(smooth, -1) / 255, atol=0.02)
    assert image_size(path) == smooth.shape[1::-1]


def test_primaries_and_transfer_function_are_applied(write):
    adobe = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    curve = np.rint((np.arange(256) / 255) ** 2.2 * 65535).astype(int).tolist()
    codes = files.chart()
    tags = [rational(318, 0.3127, 0.329), rational(319, *adobe), short(301, *curve)]
    photo = read_photo(write(codes, extratags=tags))
    expected = files.by_littlecms(files.as_image(codes), files.profiles()["adobe"])
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=2.5 / 255)
    assert "TransferFunction converted to sRGB" in photo.notes
    assert read_photo(write(codes, extratags=tags[:2])).profile == "EXIF"
    srgb = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
    same = read_photo(write(codes, extratags=[rational(318, 0.3127, 0.329), rational(319, *srgb)]))
    np.testing.assert_array_equal(same.codes, codes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"photometric": "separated", "extratags": [short(332, 2)]}, "4 inks; expected cyan"),
        ({"photometric": "separated", "extratags": [short(336, 20, 235)]}, "DotRange declares a range"),
        ({"photometric": "minisblack", "extratags": [short(291, *range(256))]}, "GrayResponseCurve"),
        ({"extratags": [short(342, *[0, 235] * 3)]}, "TransferRange"),
        ({"extratags": [short(301, *range(300))]}, "TransferFunction is damaged"),
        ({"extratags": [rational(532, 16, 235, 16, 235, 16, 235)]}, "ReferenceBlackWhite declares a range"),
        ({"extratags": [rational(319, *[0.3] * 6), rational(318, 0.3, 0.3)]}, "impossible primaries"),
        ({"photometric": "cielab", "extratags": [rational(318, 0.3127, 0.329)]}, "white point 0.3127, 0.329"),
        ({"photometric": 10}, "its colours are ITU Lab"),
        ({"photometric": 32845}, "its colours are LogLuv"),
        ({"photometric": 4}, "its colours are a mask"),
        ({"photometric": "ycbcr", "extratags": [rational(529, 0.2126, 0.7152, 0.0722)]}, "YCbCrCoefficients 0.2126"),
    ],
)  # fmt: skip
def test_tags_that_are_not_applied_are_refused_by_name(write, options, told):
    channels = {"separated": 4, "minisblack": 1, 4: 1}.get(options.get("photometric"), 3)
    samples = np.full((9, 10, channels), 77, np.uint8)
    with pytest.raises(InputError, match=told) as caught:
        read_rgb(write(samples[..., 0] if channels == 1 else samples, **options))
    assert "photo.tif" in str(caught.value)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_exif_adobe_rgb_in_a_tiff(write, bigtiff):
    codes, mark = files.chart(), 0x0BCDEF01
    path = write(codes, byteorder="<", bigtiff=bigtiff, extratags=[(65000, 4, 1, mark, True)])
    content = path.read_bytes().replace(struct.pack("<HH", 65000, 4), struct.pack("<HH", 34665, 4))
    content += bytes(len(content) % 2)
    count, number = ("<Q", "Q") if bigtiff else ("<H", "I")
    entry, start = f"HH{number}", len(content)
    inner = start + struct.calcsize(count) + 2 * struct.calcsize("<" + entry + number) + struct.calcsize("<" + number)
    exif = struct.pack(count, 2) + struct.pack(f"<{entry}H", 0xA001, 3, 1, 0xFFFF).ljust(20 if bigtiff else 12, b"\0")
    exif += struct.pack(f"<{entry}{number}{number}", 0xA005, 4 if not bigtiff else 16, 1, inner, 0)
    index = struct.pack(count, 1) + struct.pack(f"<{entry}", 1, 2, 4) + b"R03\0".ljust(8 if bigtiff else 4, b"\0")
    content += exif + index + bytes(8)
    path.write_bytes(content.replace(struct.pack("<I", mark), struct.pack("<I", start)))
    photo = read_photo(path)
    expected = files.by_littlecms(files.as_image(codes), files.profiles()["adobe"])
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=2 / 255)
    assert photo.profile == "Adobe RGB (1998)"


def test_a_white_point_alone(write):
    codes = files.chart()
    np.testing.assert_array_equal(read_photo(write(codes, extratags=[rational(318, 0.3127, 0.329)])).codes, codes)
    with pytest.raises(InputError, match=r"declares the WhitePoint 0.3457, 0.3585 without primaries"):
        read_rgb(write(codes, extratags=[rational(318, 0.3457, 0.3585)]))


def test_a_missing_photometric_is_refused(write):
    path = write(WIDE)
    content = path.read_bytes()
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    path.write_bytes(content[:at] + b"\x07\x01" + content[at + 2 :])
    with pytest.raises(InputError, match="no PhotometricInterpretation"):
        read_rgb(path)


def test_a_declared_largest_value_is_told(write):
    photo = read_photo(write(WIDE >> 4, extratags=[short(281, 4095)]))
    np.testing.assert_array_equal(photo.codes, WIDE >> 4)
    assert photo.notes == ("MaxSampleValue 4095 taken as a statistic: white is 65535",)


def test_bigtiff_and_orientation(write):
    np.testing.assert_array_equal(read_photo(write(WIDE, bigtiff=True)).codes, WIDE)
    turned = write(np.rot90(WIDE), compression="lzw", extratags=[short(274, 6)])
    np.testing.assert_array_equal(read_photo(turned).codes, WIDE)
    assert image_size(turned) == (24, 40)
