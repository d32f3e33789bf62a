"""Formats are told by their first bytes, and messages name them."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from m3sr_jax.io.photos.kinds import PHOTO_SUFFIXES, picture_format
from tests.m3sr_jax.io.photos import files


@pytest.mark.parametrize(
    ("format_", "name"),
    [("PNG", "photo.jpg"), ("JPEG", "photo.png"), ("TIFF", "photo.jpg"), ("WEBP", "photo.jpg"), ("BMP", "photo.tif")],
)
def test_a_misnamed_photo_is_read_and_told_as_what_it_is(tmp_path, format_, name):
    files.as_image(files.chart()).save(tmp_path / name, format=format_)
    photo = read_photo(tmp_path / name)
    assert photo.notes[0] == f"named {name[-4:]}, is {photo.format}"
    assert photo.format.upper() == format_
    files.as_image(files.chart()).save(tmp_path / "photo", format=format_)
    assert read_photo(tmp_path / "photo").notes == ()


@pytest.mark.parametrize("name", ["photo.jpg", "photo.heic"])
def test_a_file_that_cannot_be_read_is_told_as_what_it_is(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    told = "is HEIC, not .jpg; " if name == "photo.jpg" else ""
    assert str(caught.value).startswith(f"{path}: {told}it has no meta box")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"GIF89a" + bytes(50), "GIF"),
        (b"P6 4 4 255\n" + bytes(48), "PPM"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL"),
        (b"8BPS" + bytes(50), "Photoshop"),
        (b"v/1\x01" + bytes(50), "OpenEXR"),
        (b"%!PS-Adobe", "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"II\xbc\x01" + bytes(50), "JPEG XR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b'<svg xmlns="">', "SVG"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, content, told):
    (tmp_path / "photo.jpg").write_bytes(content)
    assert picture_format(tmp_path / "photo.jpg") == told
    with pytest.raises(InputError, match=f"cannot be read as an image: it is {told}; convert it to PNG or TIFF first"):
        read_rgb(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page; download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer; download"),
        (b"PK\x03\x04", "it is an archive; download or unpack the photo"),
    ],
)
def test_what_a_failed_download_leaves_is_named(tmp_path, content, told):
    (tmp_path / "photo.jpg").write_bytes(content)
    assert picture_format(tmp_path / "photo.jpg") is None
    with pytest.raises(InputError, match=rf"cannot be read as an image \({told}"):
        read_rgb(tmp_path / "photo.jpg")


@pytest.mark.parametrize(("marker", "told"), [(b"\xff\xc0\x00\x11\x0c", "12-bit"), (b"\xff\xf7\x00\x11\x08", "image")])
def test_jpegs_of_12_bits_and_jpeg_ls_are_refused(tmp_path, marker, told):
    files.as_image(files.chart()).save(tmp_path / "photo.jpg")
    content = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(content.replace(b"\xff\xc0\x00\x11\x08", marker))
    with pytest.raises(InputError, match=told):
        read_rgb(tmp_path / "photo.jpg")


def test_extras_that_are_missing_are_named_with_their_command(tmp_path, monkeypatch):
    import sys

    for module in ("rawpy", "pillow_heif"):
        monkeypatch.setitem(sys.modules, module, None)
    files.write_dng(tmp_path / "photo.dng", np.zeros((32, 48), np.uint16))
    with pytest.raises(InputError, match=r"photo.dng: is a camera's raw photo; .*pip install 'm3sr-jax\[raw\]'"):
        read_rgb(tmp_path / "photo.dng")
    files.as_image(files.chart(64)).save(tmp_path / "photo.heic", format="AVIF")
    content = (tmp_path / "photo.heic").read_bytes().replace(b"avif", b"heic")
    (tmp_path / "photo.heic").write_bytes(content)
    with pytest.raises(InputError, match=r"photo.heic: is HEIC; .*pip install 'm3sr-jax\[heif\]'"):
        read_rgb(tmp_path / "photo.heic")


def test_no_message_shows_a_python_object(tmp_path):
    codes = files.as_image(files.chart())
    for format_ in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "AVIF", "JPEG2000"):
        codes.save(tmp_path / "photo", format=format_)
        whole = (tmp_path / "photo").read_bytes()
        for length in (20, 40, len(whole) // 2):
            (tmp_path / "photo").write_bytes(whole[:length])
            with pytest.raises(InputError) as caught:
                read_rgb(tmp_path / "photo")
            assert "<" not in str(caught.value)
            assert "PosixPath" not in str(caught.value)


def test_suffixes_are_lower_case_and_unique():
    assert len(set(PHOTO_SUFFIXES)) == len(PHOTO_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in PHOTO_SUFFIXES)


def test_a_tiff_with_a_raw_suffix_and_a_raw_with_a_tiff_suffix(tmp_path):
    pytest.importorskip("rawpy", reason="raw photos take rawpy")
    tifffile.imwrite(tmp_path / "photo.nef", files.chart(), photometric="rgb")
    with pytest.raises(InputError, match="a raw photo that LibRaw cannot read"):
        read_rgb(tmp_path / "photo.nef")
    files.write_dng(tmp_path / "photo.tif", np.full((32, 48), 30000, np.uint16))
    photo = read_photo(tmp_path / "photo.tif")
    assert photo.format == "raw"
    assert photo.notes[0] == "named .tif, is raw"
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.dng", format="JPEG")
    assert read_photo(tmp_path / "photo.dng").notes == ("named .dng, is JPEG",)
