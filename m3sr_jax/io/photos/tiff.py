"""TIFF photos: every compression that imagecodecs knows, 1 to 32 bits, float, and what the tags declare.

Source: TIFF 6.0, with Adobe's technical notes on ICCLab, float samples and predictors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import check_claim
from m3sr_jax.io.photos.colour import divide_by_alpha, strips
from m3sr_jax.io.photos.exif import check_ycc_tags, chromaticities
from m3sr_jax.io.photos.photo import Colours, Stored, largest_code, upright_size
from m3sr_jax.io.photos.pillow import check_pixels, open_image, pixels
from m3sr_jax.io.photos.spaces import ADOBE_GAMMA, ADOBE_PRIMARIES, SRGB_PRIMARIES, ColourSpace, declared_space
from m3sr_jax.io.photos.tiff_page import channel_order, check_scale, photo_page, range_notes, tag
from m3sr_jax.io.tiff import open_tiff

if TYPE_CHECKING:
    import tifffile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCC, LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
_COLOURS: dict[int, Colours] = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "rgb",
    PALETTE: "rgb",
    CMYK: "cmyk",
    YCC: "rgb",
    LAB: "lab",
    ICC_LAB: "lab",
}
_OTHER_COLOURS = {4: "a mask", 10: "ITU Lab", 32844: "LogL (SGI)", 32845: "LogLuv (SGI)"}
_SAMPLES = {"grey": 1, "rgb": 3, "cmyk": 4, "lab": 3}
_FORMATS = {1: "unsigned", 2: "signed integer", 3: "float", 4: "untyped", 5: "complex integer", 6: "complex"}
_JPEG, PREMULTIPLIED = 7, 1
# Floating-point photos may overshoot [0, 1] by this much; the values are clipped.
OVERSHOOT = 1e-3
D50 = (0.3457, 0.3585)


def read_tiff_photo(path: Path) -> Stored:
    """Reads the full-size page of a TIFF; alpha is dropped, after division if colours are premultiplied.

    Raises:
        InputError: there are several such pages, or one of its tags declares what cannot be applied.
        RawPhotoError: it is a camera's raw file.
    """
    with open_tiff(path) as file:
        page, notes = photo_page(path, file)
        _check_tags(page)
        if page.photometric == YCC and page.compression != _JPEG:
            return _read_ycc(path, page, notes)
        _check_size(path, page)
        samples = page.asarray()
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        samples = samples[..., None] if samples.ndim == 2 else samples
        notes += range_notes(page, samples)
        colours, samples = _colours(page, samples, notes)
        bits, orientation = int(page.bitspersample), int(tag(page, 274) or 1)
        space = None if colours == "lab" else _space(page, notes)
        return Stored(samples, colours, "TIFF", bits, orientation, page.iccprofile, space, notes)


def tiff_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the upright photo.

    Raises:
        InputError: as `read_tiff_photo`.
    """
    with open_tiff(path) as file:
        page, _ = photo_page(path, file)
        return upright_size((page.imagelength, page.imagewidth), int(tag(page, 274) or 1))


def _check_size(path: Path, page: tifffile.TiffPage) -> None:
    if page.dtype is None or page.imagedepth != 1 or not page.shape:
        raise InputError(f"found {page.bitspersample}-bit {_sample_format(page)} samples; expected a photo")
    check_pixels(path, (page.imagelength, page.imagewidth), page.samplesperpixel * page.dtype.itemsize)
    check_claim(path, page.chunks, page.dtype.itemsize)


def _check_tags(page: tifffile.TiffPage) -> None:
    """Refuses what the readers below do not apply."""
    photometric = _photometric(page)
    if photometric not in _COLOURS:
        raise InputError(
            f"its colours are {_OTHER_COLOURS.get(photometric, f'photometric {photometric}')}; save it as RGB"
        )
    if _sample_format(page) not in ("unsigned", "float") and photometric not in (LAB, ICC_LAB):
        raise InputError(f"found {_sample_format(page)} samples; expected unsigned or floating-point ones")
    if len(set(page.tags.valueof(258, (1,)) if isinstance(page.tags.valueof(258), tuple) else (1,))) > 1:
        raise InputError(f"found samples of {page.tags.valueof(258)} bits; expected equal ones")
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and 291 in page.tags:
        raise InputError("its GrayResponseCurve declares densities; save it without")
    if 342 in page.tags:
        raise InputError("its TransferRange declares a range of its own; save it without")
    if photometric == CMYK:
        _check_inks(page)
    if photometric == YCC:
        check_ycc_tags(tag_numbers(page, 529), tag_numbers(page, 532), "TIFF")
    elif 532 in page.tags:
        full = (0.0, float(2**page.bitspersample - 1)) * 3 if isinstance(page.bitspersample, int) else ()
        if tag_numbers(page, 532) != full:
            raise InputError("its ReferenceBlackWhite declares a range of its own; save it without")
    check_scale(page)


def _check_inks(page: tifffile.TiffPage) -> None:
    inks = tag(page, 334)
    if tag(page, 332) not in (None, 1) or inks not in (None, 4) or page.samplesperpixel < 4:
        raise InputError(f"found {inks or page.samplesperpixel} inks; expected cyan, magenta, yellow and black")
    dots = tag(page, 336)
    if dots is not None and tuple(np.ravel(dots)[:2]) != (0, 2**page.bitspersample - 1):
        raise InputError("its DotRange declares a range of its own; save it without")


def _colours(page: tifffile.TiffPage, samples: np.ndarray, notes: list[str]) -> tuple[Colours, np.ndarray]:
    """Returns what the samples mean and the samples as colours, without extra ones."""
    photometric, given = _photometric(page), samples.shape[-1]
    colours, extra = _COLOURS[photometric], tuple(page.extrasamples)
    if photometric == BLACK_IS_ZERO and given in (3, 4) and not any(extra[:2]):
        colours, extra = "rgb", extra[2:]
        notes.append("three black-is-zero samples read as red, green and blue")
    count = 1 if photometric == PALETTE else _SAMPLES[colours]
    if given < count or (colours == "grey" and given > 2):
        raise InputError(f"found {given} samples a pixel; expected {count} of {colours}, and alpha")
    order = channel_order(page, count) if colours == "rgb" and count == 3 else None
    if order is not None and max(order) >= given:
        raise InputError("its GDAL_METADATA names samples that it does not have; save it without")
    if order is not None and order != [0, 1, 2]:
        notes.append(f"samples {', '.join(str(at + 1) for at in order)} are named red, green and blue")
    coloured = samples[..., order] if order is not None else samples[..., :count]
    if photometric == PALETTE:
        return colours, _palette(page, coloured[..., 0])
    if colours == "lab":
        return colours, _lab(page, coloured)
    coloured = scaled(coloured, page.bitspersample)
    if photometric == WHITE_IS_ZERO:
        coloured = (largest_code(coloured.dtype) - coloured).astype(coloured.dtype)
    if extra[:1] == (PREMULTIPLIED,):
        if colours == "cmyk":
            raise InputError("found CMYK premultiplied by alpha; save it as RGB")
        coloured = divide_by_alpha(coloured, scaled(samples[..., count : count + 1], page.bitspersample))
        notes.append("premultiplied alpha divided out")
    return colours, coloured


def scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Returns samples of any number of bits as uint8, uint16, or float32 in [0, 1].

    Raises:
        InputError: floating-point samples lie outside [0, 1].
    """
    if samples.dtype.kind == "f":
        low, high = float(samples.min()), float(samples.max())
        if not -OVERSHOOT <= low <= high <= 1 + OVERSHOOT:
            raise InputError(f"found {samples.dtype} values from {low:g} to {high:g}; expected [0, 1]")
        return np.clip(samples.astype(np.float32), 0, 1)
    largest = 2**bits - 1
    if samples.dtype in (np.uint8, np.uint16) and largest == np.iinfo(samples.dtype).max:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    dtype: Any = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.float32
    codes = np.empty(samples.shape, dtype)
    for rows in strips(samples.shape):
        values = samples[rows].astype(np.float64) * (largest_code(codes.dtype) / largest)
        codes[rows] = np.rint(values) if codes.dtype.kind == "u" else values
    return codes


def _palette(page: tifffile.TiffPage, indices: np.ndarray) -> np.ndarray:
    colours = page.colormap
    if colours is None or page.bitspersample > 8 or colours.shape != (3, 2**page.bitspersample):
        raise InputError("its palette is damaged; save it as RGB")
    if not (colours & 255).any():  # 8-bit colours, as most programs store them
        colours = (colours >> 8).astype(np.uint8)
    return np.ascontiguousarray(colours.T)[indices]


def _lab(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    """Returns L* in [0, 100], a* and b*. CIE Lab has signed a* and b*, ICC Lab adds 128 (16 bits: 2¹⁵; L* = 0xFF00)."""
    bits, icc = page.bitspersample, _photometric(page) == ICC_LAB
    if bits not in (8, 16) or _sample_format(page) == "float":
        raise InputError(f"found {bits}-bit {_sample_format(page)} Lab; expected 8 or 16 bits")
    white = tag_numbers(page, 318)
    if len(white) == 2 and np.abs(np.subtract(white, D50)).max() > 0.002:
        raise InputError(f"its Lab has the white point {white[0]:g}, {white[1]:g}; expected D50")
    unsigned = samples.view(f"u{bits // 8}") if samples.dtype.isnative else samples.astype(f"u{bits // 8}")
    values = unsigned.astype(np.float32)
    half, unit = float(2 ** (bits - 1)), float(2 ** (bits - 8))
    values[..., 1:] = (
        values[..., 1:] - half if icc else np.where(values[..., 1:] < half, values[..., 1:], values[..., 1:] - 2 * half)
    )
    values[..., 1:] /= unit
    values[..., 0] *= 100 / (0xFF00 if icc and bits == 16 else 2 * half - 1)
    return values


def _read_ycc(path: Path, page: tifffile.TiffPage, notes: list[str]) -> Stored:
    """Reads YCbCr that is not JPEG through Pillow, whose libtiff converts it to RGB and which turns it upright."""
    if page.bitspersample != 8 or page.index != 0:
        raise InputError(f"found {page.bitspersample}-bit YCbCr; expected RGB")
    with open_image(path, "TIFF") as image:
        return Stored(pixels(image, "RGB"), "rgb", "TIFF", 8, 1, page.iccprofile, _space(page, notes), notes)


def _space(page: tifffile.TiffPage, notes: list[str]) -> ColourSpace | None:
    """Returns the space that WhitePoint, PrimaryChromaticities, TransferFunction or EXIF declare."""
    if page.iccprofile is not None:
        return None
    exif = tag(page, 34665)
    if isinstance(exif, dict) and exif.get("ColorSpace") == 2:
        return ColourSpace("Adobe RGB (1998)", ADOBE_PRIMARIES, ADOBE_GAMMA)
    primaries = chromaticities(tag_numbers(page, 318), tag_numbers(page, 319))
    table = tag(page, 301)
    if primaries is not None:
        declared_space("PrimaryChromaticities", primaries, None)  # type: ignore[arg-type]
    if table is not None:
        curve = _transfer_function(np.asarray(table), page.bitspersample)
        return ColourSpace("TransferFunction", primaries or SRGB_PRIMARIES, curve=curve)  # type: ignore[arg-type]
    if primaries is not None:
        return declared_space("PrimaryChromaticities", primaries, None)  # type: ignore[arg-type]
    if page.dtype is not None and page.dtype.kind == "f":
        notes.append("float samples without a profile taken as sRGB-encoded")
    return None


def _transfer_function(table: np.ndarray, bits: int) -> Any:
    """Returns the function from samples to light that a TransferFunction of 2^bits or 3·2^bits entries is."""
    if bits > 16 or table.size not in (2**bits, 3 * 2**bits):
        raise InputError("its TransferFunction is damaged; save it without")
    curves = np.broadcast_to(table.reshape(-1, 2**bits) / 65535, (3, 2**bits))
    codes = np.linspace(0, 1, 2**bits)

    def curve(values: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(values[..., i], codes, curves[i]) for i in range(3)], axis=-1)

    return curve


def _photometric(page: tifffile.TiffPage) -> int:
    if 262 not in page.tags:
        raise InputError("it has no PhotometricInterpretation, which would say what its samples mean; save it again")
    return int(page.photometric)


def _sample_format(page: tifffile.TiffPage) -> str:
    value = tag(page, 339)
    kinds = {int(kind) for kind in np.ravel(value)} if value is not None else {1}
    return _FORMATS.get(next(iter(kinds)), "unknown") if len(kinds) == 1 else "mixed"


def tag_numbers(page: tifffile.TiffPage, code: int) -> tuple[float, ...]:
    """Returns a tag's numbers; tifffile has rationals as pairs of integers."""
    found = page.tags.get(code)
    if found is None or not isinstance(found.value, tuple):
        return ()
    numbers = found.value
    if found.dtype in (5, 10) and len(numbers) % 2 == 0:
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return tuple(float(above) / below if below else np.nan for above, below in pairs)
    return tuple(float(number) for number in numbers)
