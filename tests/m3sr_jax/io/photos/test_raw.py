"""Raw photos: linear, white-balanced as the camera says, not their thumbnail."""

import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import read_photo, read_rgb
from m3sr_jax.io.photos import image_size
from tests.m3sr_jax.io.photos import files

rawpy = pytest.importorskip("rawpy", reason="raw photos take rawpy")

NEUTRAL = (0.5, 1.0, 0.8)


@pytest.fixture
def grey_card(tmp_path):
    """A grey card at 20 % of the sensor's range: its red and blue samples are weaker by the camera's neutral."""

    def write(level=0.2, **options):
        mosaic = np.full((48, 64), level, np.float64)
        mosaic[::2, ::2] *= NEUTRAL[0]
        mosaic[1::2, 1::2] *= NEUTRAL[2]
        files.write_dng(tmp_path / "photo.dng", np.rint(mosaic * 65535).astype(np.uint16), neutral=NEUTRAL, **options)
        return tmp_path / "photo.dng"

    return write


def test_a_grey_card_is_grey_and_proportional_to_light(grey_card):
    photo = read_photo(grey_card())
    assert photo.encoding == "linear"
    assert (photo.format, photo.codes.dtype, photo.codes.shape) == ("raw", np.uint16, (48, 64, 3))
    assert "raw photo developed to linear RGB with the camera's white balance, brightness as exposed" in photo.notes
    middle = photo.rgb[8:-8, 8:-8]
    np.testing.assert_allclose(middle, middle[..., :1].repeat(3, -1), rtol=0.03)
    for level in (0.4, 0.8, 0.95):  # LibRaw would stretch the last two to white
        np.testing.assert_allclose(read_rgb(grey_card(level))[8:-8, 8:-8].mean(), level, rtol=0.01)


def test_values_are_librawes(grey_card):
    path = grey_card()
    with rawpy.imread(str(path)) as raw:
        expected = raw.postprocess(gamma=(1, 1), no_auto_bright=True, output_bps=16, use_camera_wb=True)
    np.testing.assert_array_equal(read_photo(path).codes, expected)


def test_a_raw_photo_is_turned_upright(grey_card):
    path, turned = grey_card(), "turned upright, as its orientation says"
    assert turned not in read_photo(path).notes
    path = grey_card(orientation=6)
    assert read_rgb(path).shape == (64, 48, 3)
    assert turned in read_photo(path).notes
    assert image_size(path) == (64, 48)


@pytest.mark.parametrize("code", [51008, 51009, 51022])
def test_corrections_that_are_not_applied_are_told(grey_card, code):
    opcodes = files.opcodes(9, 1, 1, 77)
    photo = read_photo(grey_card(tags_of_mosaic=[(code, 7, len(opcodes), opcodes, True)]))
    assert "corrections not applied: GainMap, WarpRectilinear, opcode 77" in photo.notes


@pytest.mark.parametrize(("number", "name"), [(7, "MapTable"), (8, "MapPolynomial")])
def test_a_curve_that_libraw_leaves_out_is_refused(grey_card, number, name):
    """DNGs of Adobe's lossy compression have one: without it, their codes are taken for light."""
    opcodes = files.opcodes(9, number)
    path = grey_card(tags_of_mosaic=[(51009, 7, len(opcodes), opcodes, True)])
    with pytest.raises(InputError, match=f"photo.dng: its OpcodeList2 has the curve {name}, which LibRaw leaves out"):
        read_photo(path)


def test_a_missing_white_balance_is_told(grey_card):
    path = grey_card()
    path.write_bytes(path.read_bytes().replace(b"\x28\xc6", b"\x28\xc7"))  # AsShotNeutral
    assert "daylight white balance, as it states none" in read_photo(path).notes[0]


def test_a_damaged_raw_photo_is_refused(grey_card):
    path = grey_card()
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"photo\.dng: "):
        read_rgb(path)
