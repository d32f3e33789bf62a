"""What PNG chunks, EXIF, JPEG markers and boxes declare about colours: applied, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from m3sr_jax.io.photos import image_size
from m3sr_jax.io.photos.spaces import srgb_encode
from tests.m3sr_jax.io.photos import files

TOLERANCE = 2 / 255  # of littleCMS in 8 bits, which rounds twice
SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_CHROMATICITIES = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
P3_CHROMATICITIES = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def gama(number):
    return b"gAMA", struct.pack(">I", number)


def chrm(*numbers):
    return b"cHRM", struct.pack(">8I", *numbers)


@pytest.fixture
def png(tmp_path):
    def make(*chunks, codes=None):
        (tmp_path / "photo.png").write_bytes(files.png(files.chart() if codes is None else codes, *chunks))
        return tmp_path / "photo.png"

    return make


# PNG


def test_apples_png_is_refused(png):
    with pytest.raises(InputError, match="Apple's variant of PNG"):
        read_rgb(png((b"CgBI", b"P\0 \2")))


def test_png_with_long_text_and_a_long_profile(png):
    """Pillow's limit is 1 MiB, decompressed: ImageMagick keeps Photoshop's data as such text."""
    text = b"Raw profile type 8bim\0\0" + zlib.compress(bytes(2**21))
    profile = files.with_tag(files.profiles()["p3"], b"CAPT", b"text" + bytes(2**21))
    photo = read_photo(png((b"iCCP", b"long\0\0" + zlib.compress(profile)), (b"zTXt", text)))
    expected = files.by_littlecms(files.as_image(files.chart()), profile)
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=TOLERANCE)


@pytest.mark.parametrize("behind", [False, True])
def test_png_with_exif_before_or_behind_the_pixels(png, behind):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = png((b"eXIf", exif.tobytes()[6:]))
    if behind:
        content = path.read_bytes()
        chunk = content[content.index(b"eXIf") - 4 : content.index(b"IDAT") - 4]
        content = content.replace(chunk, b"")
        path.write_bytes(content[:-12] + chunk + content[-12:])
    height, width, _ = files.chart().shape
    assert image_size(path) == read_photo(path).codes.shape[:2] == (width, height)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_samples_keep_all_bits_and_lose_alpha(png, dtype, channels):
    codes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 11, channels)).astype(dtype)
    expected = codes[..., :3] if channels > 2 else np.repeat(codes[..., :1], 3, -1)
    photo = read_photo(png(codes=codes))
    np.testing.assert_array_equal(photo.codes, expected)
    assert photo.bits == np.iinfo(dtype).bits


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"sRGB", b"\0")],
        [(b"sRGB", b"\0"), gama(100000), chrm(*P3_CHROMATICITIES)],
        [gama(45455)],
        [gama(45455), chrm(*SRGB_CHROMATICITIES)],
        [chrm(*SRGB_CHROMATICITIES)],
        [(b"cICP", bytes([1, 13, 0, 1])), gama(100000)],
    ],
)
def test_png_chunks_that_say_srgb(png, chunks):
    photo = read_photo(png(*chunks))
    np.testing.assert_array_equal(photo.codes, files.chart())
    assert photo.encoding == "srgb"
    assert photo.profile is not None


def test_png_of_another_gamma_and_primaries(png):
    photo = read_photo(png(gama(45471), chrm(*ADOBE_CHROMATICITIES)))
    expected = files.by_littlecms(files.as_image(files.chart()), files.profiles()["adobe"])
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=TOLERANCE)
    assert "gAMA chunk converted to sRGB" in photo.notes
    dark = read_rgb(png(gama(55556)))  # light = code^1.8, as old Macs had it
    light = (files.chart() / 255) ** 1.8
    np.testing.assert_allclose(dark, srgb_encode(light), atol=2e-5)


@pytest.mark.parametrize("chunk", [gama(100000), (b"cICP", bytes([1, 8, 0, 1]))])
def test_linear_pngs_stay_linear_and_say_so(png, chunk):
    wide = files.chart().astype(np.uint16) * np.uint16(257)
    photo = read_photo(png(chunk, codes=wide))
    np.testing.assert_array_equal(photo.codes, wide)
    assert photo.encoding == "linear"
    assert any(note.startswith("linear, as its") for note in photo.notes)


def test_linear_p3_gets_srgb_primaries(png):
    photo = read_photo(png(gama(100000), chrm(*P3_CHROMATICITIES), codes=np.full((9, 9, 3), 128, np.uint8)))
    assert photo.encoding == "linear"
    np.testing.assert_allclose(photo.rgb, 128 / 255, atol=2e-5)  # grey stays grey
    red = read_rgb(png(gama(100000), chrm(*P3_CHROMATICITIES), codes=np.full((9, 9, 3), [100, 50, 50], np.uint8)))
    matrix = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])  # P3 to sRGB, published
    np.testing.assert_allclose(red[0, 0], matrix @ [100 / 255, 50 / 255, 50 / 255], atol=2e-4)


def test_cicp_display_p3_and_precedence(png):
    icc = files.profiles()["prophoto"]
    import imagecodecs

    chunks = [(b"cICP", bytes([12, 13, 0, 1])), (b"iCCP", b"x\0\0" + imagecodecs.zlib_encode(icc))]
    photo = read_photo(png(*chunks))
    assert photo.profile == "Display P3"
    assert "Display P3 converted to sRGB" in photo.notes
    grey = read_rgb(png(*chunks, codes=np.full((9, 9, 3), 100, np.uint8)))
    np.testing.assert_allclose(grey, 100 / 255, atol=2e-5)


@pytest.mark.parametrize(
    ("chunk", "told"),
    [
        ((b"cICP", bytes([9, 16, 0, 1])), "cICP chunk declares the HDR curve PQ"),
        ((b"cICP", bytes([9, 18, 0, 1])), "cICP chunk declares the HDR curve HLG"),
        ((b"cICP", bytes([99, 13, 0, 1])), "cICP chunk declares colour primaries 99"),
        ((b"cICP", bytes([1, 9, 0, 1])), "cICP chunk declares transfer curve 9"),
        ((b"cICP", bytes([1, 13, 0, 0])), "declares matrix 0, range 0; expected full-range RGB"),
        ((b"cICP", bytes([1, 13])), "cICP chunk has 2 bytes"),
        (gama(0), "gAMA chunk declares gamma inf"),
        (gama(2**31), "gAMA chunk declares gamma"),
        (chrm(*[30000] * 8), "cHRM chunk declares impossible primaries"),
    ],
)
def test_png_chunks_that_cannot_be_applied(png, chunk, told):
    with pytest.raises(InputError, match=f"photo.png: its {told}|photo.png: .*{told}"):
        read_rgb(png(chunk))


# EXIF and JPEG


def write_jpeg(path, *, space=None, index=None, gamma=None, main=None, **options):
    exif = Image.Exif()
    exif[0x0112] = 1
    details, interop = exif.get_ifd(0x8769), {}
    if space is not None:
        details[0xA001] = space
    if gamma is not None:
        details[0xA500] = gamma
    if index is not None:
        interop[1] = index
        details[0xA005] = interop
    for code, value in (main or {}).items():
        exif[code] = value
    smooth = np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8))
    files.as_image(smooth).save(path, exif=exif, quality=98, subsampling=0, **options)
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("declared", [{"space": 0xFFFF, "index": "R03"}, {"space": 2}])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exif_adobe_rgb(tmp_path, declared, suffix):
    path = tmp_path / f"photo{suffix}"
    stored = write_jpeg(path, **declared)
    photo = read_photo(path)
    expected = files.by_littlecms(files.as_image(stored), files.profiles()["adobe"])
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=TOLERANCE)
    assert photo.profile == "Adobe RGB (1998)"


def test_exif_srgb_and_uncalibrated(tmp_path):
    path = tmp_path / "photo.jpg"
    stored = write_jpeg(path, space=1, index="R98")
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.codes, stored)
    assert (photo.profile, photo.notes) == ("sRGB", ())
    write_jpeg(path, space=0xFFFF)
    assert read_photo(path).notes == ("EXIF says uncalibrated and there is no profile: taken as sRGB",)
    write_jpeg(path)
    assert read_photo(path).profile is None


def test_exif_primaries_and_gamma(tmp_path):
    path = tmp_path / "photo.jpg"
    white, primaries = (0.3127, 0.329), (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    stored = write_jpeg(path, space=0xFFFF, gamma=2.2, main={0x13E: white, 0x13F: primaries})
    expected = files.by_littlecms(files.as_image(stored), files.profiles()["adobe"])
    np.testing.assert_allclose(read_rgb(path), expected / 255, atol=TOLERANCE)


def test_a_profile_precedes_exif(tmp_path):
    path = tmp_path / "photo.jpg"
    stored = write_jpeg(path, space=0xFFFF, index="R03", icc_profile=files.srgb_profile())
    np.testing.assert_array_equal(read_photo(path).codes, stored)


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".png", ".webp"])
def test_damaged_exif_is_passed_over_and_told(tmp_path, suffix):
    """Pillow refuses it, except in a JPEG without a JFIF marker."""
    path = tmp_path / f"photo{suffix}"
    files.as_image(files.chart()).save(path, exif=b"Exif\0\0\0\x08\0\2\1\x12\0\3\0\0")
    if suffix == ".jpg":
        content = path.read_bytes()
        path.write_bytes(content[:2] + content[2 + 18 :])
    assert (b"JFIF" in path.read_bytes()) == (suffix == ".jfif")
    photo = read_photo(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(photo.codes, np.asarray(image))
    assert photo.notes == ("its EXIF is damaged and was passed over: taken as upright",)
    assert image_size(path) == photo.codes.shape[:2]


def test_exif_that_is_empty_or_text_of_a_png(tmp_path, png):
    for blank in (b"Exif\0\0", Image.Exif()):
        for suffix in (".jpg", ".png", ".webp"):
            files.as_image(files.chart()).save(tmp_path / f"photo{suffix}", exif=blank)
            assert read_photo(tmp_path / f"photo{suffix}").notes == ()
    texts = (
        (b"tEXt", b"exif\0b'Exif'"),
        (b"iTXt", b"exif\0\0\0\0\0text"),
        (b"tEXt", b"Raw profile type exif\0\nexif\n4\nxx"),
    )
    for chunk in texts:
        assert "its EXIF is damaged and was passed over: taken as upright" in read_photo(png(chunk)).notes


@pytest.mark.parametrize(
    ("main", "told"),
    [
        ({0x0211: (0.2126, 0.7152, 0.0722)}, "EXIF declares YCbCrCoefficients 0.2126, 0.7152, 0.0722"),
        ({0x0214: (16, 235, 128, 240, 128, 240)}, "EXIF declares ReferenceBlackWhite 16, 235"),
        ({0x012D: tuple(range(768))}, "EXIF declares a TransferFunction"),
    ],
)
def test_exif_that_cannot_be_applied(tmp_path, main, told):
    write_jpeg(tmp_path / "photo.jpg", main=main)
    with pytest.raises(InputError, match=told):
        read_rgb(tmp_path / "photo.jpg")
    write_jpeg(tmp_path / "photo.jpg", space=5)
    with pytest.raises(InputError, match="EXIF declares ColorSpace 5"):
        read_rgb(tmp_path / "photo.jpg")


def test_usual_exif_ycc_is_accepted(tmp_path):
    main = {0x0211: (0.299, 0.587, 0.114), 0x0214: (0, 255, 128, 255, 128, 255)}
    stored = write_jpeg(tmp_path / "photo.jpg", space=1, main=main)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.jpg").codes, stored)


def test_cmyk_jpegs_need_adobes_marker(tmp_path):
    path = tmp_path / "photo.jpg"
    image = files.as_image(np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8)))
    image.convert("CMYK").save(path, quality=98)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(read_photo(path).codes, np.asarray(stored.convert("RGB")))
    content = path.read_bytes()
    at = content.index(b"\xff\xee")
    path.write_bytes(content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :])
    with pytest.raises(InputError, match=r"photo.jpg: found CMYK without an Adobe marker"):
        read_rgb(path)


def test_the_first_of_several_pictures(tmp_path):
    path = tmp_path / "photo.jpg"
    image = files.as_image(np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8)))
    image.save(path, format="MPO", save_all=True, append_images=[image.resize((20, 12))], quality=98)
    photo = read_photo(path)
    assert photo.codes.shape == (48, 72, 3)
    assert photo.notes == ("the first of several pictures was read",)
    image.save(path, quality=98, xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/" hdrgm:Version="1.0"/>')
    assert read_photo(path).notes == ("HDR gain map not applied: the SDR picture was read",)


# Boxes


def test_avif_colours(tmp_path):
    path = tmp_path / "photo.avif"
    image = files.as_image(np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8)))
    image.save(path, quality=100, subsampling="4:4:4")
    photo = read_photo(path)
    assert (photo.format, photo.profile, photo.bits) == ("AVIF", "sRGB", 8)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(photo.codes, np.asarray(stored.convert("RGB")))
    content = path.read_bytes()
    at = content.index(b"colrnclx") + 8

    def declaring(primaries, transfer):
        path.write_bytes(content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :])
        return path

    assert "Display P3 converted to sRGB" in read_photo(declaring(12, 13)).notes
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        with pytest.raises(InputError, match=f"photo.avif: its nclx property declares the HDR curve {name}"):
            read_rgb(declaring(9, transfer))
    path.write_bytes(content.replace(b"colrnclx", b"xxxxnclx"))
    assert read_photo(path).profile is None


def test_premultiplied_avif_and_heic(tmp_path):
    codes = np.full((64, 64, 4), [200, 100, 40, 128], np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.avif", alpha_premultiplied=True, quality=100, subsampling="4:4:4")
    assert b"prem" in (tmp_path / "a.avif").read_bytes()
    np.testing.assert_allclose(read_rgb(tmp_path / "a.avif")[30, 30] * 255, [200, 100, 40], atol=4)
    heif = pytest.importorskip("pillow_heif", reason="HEIC takes pillow-heif")
    halved = (codes * [0.5, 0.5, 0.5, 1]).astype(np.uint8)
    heif.from_bytes("RGBa", (64, 64), halved.tobytes()).save(tmp_path / "a.heic", quality=100, chroma=444)
    photo = read_photo(tmp_path / "a.heic")
    np.testing.assert_allclose(photo.rgb[30, 30] * 255, [200, 100, 40], atol=4)
    assert "premultiplied alpha divided out" in photo.notes


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_and_webp_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = files.as_image(np.kron(files.chart(4), np.ones((16, 16, 1), np.uint8)))
    image.save(tmp_path / "photo.png", exif=exif)
    expected = read_rgb(tmp_path / "photo.png")
    for name, options, tolerance in (
        ("a.webp", {"lossless": True}, 0),
        ("a.avif", {"quality": 100, "subsampling": "4:4:4"}, 0.05),
    ):
        image.save(tmp_path / name, exif=exif, **options)
        np.testing.assert_allclose(read_rgb(tmp_path / name), expected, atol=tolerance)
        assert image_size(tmp_path / name) == expected.shape[:2]


def test_animations_are_refused(tmp_path):
    frames = [files.as_image(files.chart()), files.as_image(files.chart()[::-1].copy())]
    for name in ("photo.webp", "photo.avif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="found an animation of 2 frames; expected one photo"):
            read_rgb(tmp_path / name)
    frames[0].save(tmp_path / "photo.png", save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(photo.codes, files.chart())
    assert photo.notes == ("the still picture of an animation was read",)


def test_webp_keeps_the_colour_of_transparent_pixels(tmp_path):
    codes = np.concatenate([files.chart(), np.full((24, 27, 1), 3, np.uint8)], -1)
    Image.fromarray(codes).save(tmp_path / "photo.webp", lossless=True, exact=True)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.webp").codes, files.chart())


# HEIC


@pytest.fixture
def heif():
    return pytest.importorskip("pillow_heif", reason="HEIC takes pillow-heif")


def decoded(heif, path, **options):
    opened = heif.open_heif(path, **options)
    return np.array(opened)


@pytest.mark.parametrize("bits", [8, 10])
def test_heic_as_pillow_heif_decodes(tmp_path, heif, bits):
    path = tmp_path / "photo.heic"
    smooth = np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8))
    if bits == 8:
        heif.from_pillow(files.as_image(smooth)).save(path, quality=95, chroma=444)
    else:
        wide = (smooth.astype(np.uint16) * 257).tobytes()
        heif.from_bytes("RGB;16", (72, 48), wide).save(path, quality=95, chroma=444)
    photo = read_photo(path)
    assert (photo.format, photo.bits) == ("HEIC", bits)
    assert photo.profile in ("sRGB", None)  # older versions write no colr property
    assert photo.codes.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(photo.codes, decoded(heif, path, convert_hdr_to_8bit=False))
    np.testing.assert_allclose(photo.rgb, smooth / 255, atol=0.2)
    assert image_size(path) == (48, 72)


def test_heic_colours_and_orientation(tmp_path, heif):
    path = tmp_path / "photo.heic"
    image = files.as_image(np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8)))
    icc = files.profiles()["p3"]
    image.info["icc_profile"] = icc
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    heif.from_pillow(image).save(path, quality=100, chroma=444)
    photo = read_photo(path)
    stored = Image.fromarray(decoded(heif, path))
    np.testing.assert_allclose(photo.rgb, files.by_littlecms(stored, icc) / 255, atol=TOLERANCE)
    assert b"irot" in path.read_bytes()  # libheif has turned it; EXIF only repeats that
    assert "turned upright, as its orientation says" in photo.notes
    assert image_size(path) == photo.codes.shape[:2] == stored.size[::-1]
    del image.info["icc_profile"]
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        heif.from_pillow(image).save(path, quality=95, color_primaries=9, transfer_characteristics=transfer)
        with pytest.raises(InputError, match=f"photo.heic: its nclx property declares the HDR curve {name}"):
            read_rgb(path)


# JPEG 2000


@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_2000(tmp_path, suffix, dtype, channels):
    import imagecodecs

    codes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (33, 40, channels)).astype(dtype)
    stored = codes[..., 0] if channels == 1 else codes
    codec = "jp2" if suffix == ".jp2" else "j2k"
    colours = imagecodecs.JPEG2K.CLRSPC.GRAY if channels == 1 else imagecodecs.JPEG2K.CLRSPC.SRGB
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(imagecodecs.jpeg2k_encode(stored, level=0, codecformat=codec, colorspace=colours))
    photo = read_photo(path)
    expected = np.repeat(codes, 3, -1) if channels == 1 else codes[..., :3]
    np.testing.assert_array_equal(photo.codes, expected)
    assert image_size(path) == (33, 40)
    assert photo.bits == np.iinfo(dtype).bits


def test_a_profile_in_jpeg_2000_is_applied_once(tmp_path):
    """The decoder applies the profile of a whole file by itself."""
    icc, path = files.profiles()["p3"], tmp_path / "photo.jp2"
    files.as_image(files.chart(40)).save(path)
    content = path.read_bytes()
    box, header = content.index(b"colr") - 4, content.index(b"jp2h") - 4
    (old,), (whole,) = struct.unpack_from(">I", content, box), struct.unpack_from(">I", content, header)
    new = struct.pack(">I", len(icc) + 11) + b"colr\2\0\0" + icc
    size = struct.pack(">I", whole - old + len(new))
    path.write_bytes(content[:header] + size + content[header + 4 : box] + new + content[box + old :])
    expected = files.by_littlecms(files.as_image(files.chart(40)), icc) / 255
    np.testing.assert_allclose(read_rgb(path), expected, atol=TOLERANCE)


def test_jpeg_2000_of_other_colours_is_refused(tmp_path):
    path = tmp_path / "photo.jp2"
    files.as_image(files.chart(40)).save(path)
    content = path.read_bytes()
    at = content.index(b"colr") + 7
    for number in (12, 18, 21):
        path.write_bytes(content[:at] + struct.pack(">I", number) + content[at + 4 :])
        with pytest.raises(InputError, match=f"photo.jp2: it declares colour space {number}"):
            read_rgb(path)
