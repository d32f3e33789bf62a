"""ICC profiles: what littleCMS makes of 8, 16 and 32 bits, grey and CMYK; what cannot be applied is refused by name."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from tests.m3sr_jax.io.photos import files

TOLERANCE = 2 / 255  # of littleCMS in 8 bits, which rounds twice


@pytest.mark.parametrize("name", ["p3", "adobe", "prophoto", "bt2020"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_profiles_become_srgb_as_by_littlecms(tmp_path, name, suffix):
    icc, path = files.profiles()[name], tmp_path / f"photo{suffix}"
    files.as_image(files.chart()).save(path, icc_profile=icc, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        expected = files.by_littlecms(image.convert("RGB"), icc)
    photo = read_photo(path)
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=TOLERANCE)
    assert photo.encoding == "srgb"
    assert photo.profile in ("RGB built-in", "Adobe RGB (compatible)")
    assert f"{photo.profile} converted to sRGB" in photo.notes
    assert any("lie outside sRGB and were clipped" in note for note in photo.notes)


@pytest.mark.parametrize("kind", ["png16", "tiff16", "float"])
def test_16_bits_and_float_are_converted_with_all_bits(tmp_path, kind):
    icc = files.profiles()["p3"]
    codes = np.repeat(np.arange(40000, 40256, dtype=np.uint16)[:, None, None], 3, 2).repeat(9, 1)
    if kind == "png16":
        path = tmp_path / "photo.png"
        path.write_bytes(files.png(codes, (b"iCCP", b"x\0\0" + imagecodecs.zlib_encode(icc))))
    else:
        path, values = tmp_path / "photo.tif", codes if kind == "tiff16" else (codes / 65535).astype(np.float32)
        tifffile.imwrite(path, values, photometric="rgb", iccprofile=icc)
    found = read_rgb(path)
    light = (codes / 65535) ** 2.2  # grey stays grey; the curves differ
    expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(found, expected, atol=3e-4)
    assert len(np.unique(found[..., 1])) > 240


def test_a_profile_of_which_a_part_is_missing_is_refused(tmp_path):
    icc = files.profiles()["adobe"]
    long = icc + bytes(150_000)
    files.as_image(files.chart()).save(tmp_path / "photo.jpg", icc_profile=struct.pack(">I", len(long)) + long[4:])
    content = (tmp_path / "photo.jpg").read_bytes()
    assert content.count(b"ICC_PROFILE\0") == 3
    at = content.index(b"ICC_PROFILE\0") - 4
    size = struct.unpack_from(">H", content, at + 2)[0] + 2
    (tmp_path / "photo.jpg").write_bytes(content[:at] + content[at + size :])
    with pytest.raises(InputError, match=r"photo\.jpg: parts of its ICC profile are missing"):
        read_rgb(tmp_path / "photo.jpg")


def test_an_srgb_profile_changes_no_code(tmp_path):
    files.as_image(files.chart()).save(tmp_path / "photo.png", icc_profile=files.srgb_profile())
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(photo.codes, files.chart())
    assert (photo.profile, photo.notes) == ("sRGB built-in", ())


def test_grey_profiles(tmp_path):
    icc = imagecodecs.cms_profile("gray", gamma=1.8)
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for name in ("photo.png", "photo.jpg", "photo.tif"):
        grey.save(tmp_path / name, icc_profile=icc, **({"quality": 100} if name.endswith("jpg") else {}))
        with Image.open(tmp_path / name) as stored:
            expected = files.by_littlecms(stored, icc)
        np.testing.assert_allclose(read_rgb(tmp_path / name), expected / 255, atol=TOLERANCE)


def test_grey_samples_of_an_rgb_profile(tmp_path):
    icc, grey = files.profiles()["adobe"], np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "photo.jpg", icc_profile=icc, quality=100)
    with Image.open(tmp_path / "photo.jpg") as stored:
        expected = files.by_littlecms(stored.convert("RGB"), icc)
    np.testing.assert_allclose(read_rgb(tmp_path / "photo.jpg"), expected / 255, atol=TOLERANCE)


@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_profiles(tmp_path, bits):
    icc, inks = files.cmyk_profile(), np.random.default_rng(0).integers(0, 200, (20, 21, 4)).astype(np.uint8)
    expected = files.by_littlecms(Image.frombytes("CMYK", (21, 20), inks.tobytes()), icc)
    stored = inks if bits == 8 else inks * np.uint16(257)
    tifffile.imwrite(tmp_path / "photo.tif", stored, photometric="separated", iccprofile=icc)
    photo = read_photo(tmp_path / "photo.tif")
    np.testing.assert_allclose(photo.rgb, expected / 255, atol=TOLERANCE)
    assert photo.profile == "Test inks"


def test_cmyk_jpeg_with_a_profile(tmp_path):
    icc = files.cmyk_profile()
    files.as_image(np.kron(files.chart(6), np.ones((8, 8, 1), np.uint8))).convert("CMYK").save(
        tmp_path / "photo.jpg", icc_profile=icc, quality=95
    )
    with Image.open(tmp_path / "photo.jpg") as image:
        expected = files.by_littlecms(image, icc)
    np.testing.assert_allclose(read_rgb(tmp_path / "photo.jpg"), expected / 255, atol=TOLERANCE)


def test_hdr_profiles_are_refused_by_name(tmp_path):
    adobe = files.profiles()["adobe"]
    for curve, name in ((16, "PQ"), (18, "HLG")):
        icc = files.with_tag(adobe, b"cicp", b"cicp" + bytes(4) + bytes([9, curve, 0, 1]))
        files.as_image(files.chart()).save(tmp_path / "photo.png", icc_profile=icc)
        with pytest.raises(InputError, match=f'photo.png: its ICC profile ".*" has the HDR curve {name}'):
            read_rgb(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("icc", "told"),
    [
        (b"no profile", "its ICC profile is damaged"),
        (files.renamed(files.profiles()["adobe"], b"mntr", b"link"), "is of class link for RGB"),
        (imagecodecs.cms_profile("gray", gamma=2.2), "is for GRAY, its samples are rgb"),
        (files.cmyk_profile(), '"Test inks" is for CMYK, its samples are rgb'),
        (files.renamed(files.profiles()["adobe"], b"rTRC", b"xTRC"), "cannot be applied"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(tmp_path, icc, told):
    files.as_image(files.chart()).save(tmp_path / "photo.jpg", icc_profile=icc)
    with pytest.raises(InputError, match=told) as caught:
        read_rgb(tmp_path / "photo.jpg")
    assert str(tmp_path / "photo.jpg") in str(caught.value)


def test_a_damaged_iccp_chunk_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(files.png(files.chart(), (b"iCCP", b"x\0\0" + b"not deflated")))
    with pytest.raises(InputError, match="iCCP"):
        read_rgb(tmp_path / "photo.png")


def test_a_calibrated_bmp_is_refused_and_an_embedded_profile_applied(tmp_path):
    path, codes = tmp_path / "photo.bmp", files.chart()
    files.as_image(codes).save(path)
    plain = path.read_bytes()

    def with_header(space, rest=b""):
        header = struct.pack("<I", 124) + plain[18:54] + bytes(16) + space[::-1] + bytes(36 + 12 + 4)
        header = (header + struct.pack("<II", 124 + len(plain) - 54, len(rest)) + bytes(4)).ljust(124, b"\0")
        start = 14 + 124
        path.write_bytes(plain[:10] + struct.pack("<I", start) + header + plain[54:] + rest)

    with_header(b"sRGB")
    np.testing.assert_array_equal(read_photo(path).codes, codes)
    icc = files.profiles()["p3"]
    with_header(b"MBED", icc)
    expected = files.by_littlecms(files.as_image(codes), icc)
    np.testing.assert_allclose(read_rgb(path), expected / 255, atol=TOLERANCE)
    with_header(b"LINK")
    with pytest.raises(InputError, match="colour profile in another file"):
        read_rgb(path)
    with_header(bytes(4))
    np.testing.assert_array_equal(read_photo(path).codes, codes)
    stated = bytearray(path.read_bytes())
    stated[14 + 96] = 1  # a gamma
    path.write_bytes(bytes(stated))
    with pytest.raises(InputError, match="calibrated RGB of its own"):
        read_rgb(path)
