"""The tags of a TIFF that declare what its numbers mean: read, checked, or refused by name.

Source: TIFF 6.0; Adobe's TIFF technical notes; and `m3sr_jax.io.gdal_items`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.declared import unit_divisor
from m3sr_jax.io.files import BoundedFile
from m3sr_jax.io.gdal_items import WHOLE_FILE, Item
from m3sr_jax.io.gdal_tags import WAVELENGTH_NAMES
from m3sr_jax.io.photos.exif import check_ycc_tags, chromaticities, exif_space
from m3sr_jax.io.photos.photo import Colours
from m3sr_jax.io.photos.spaces import SRGB_PRIMARIES, ColourSpace, declared_space

if TYPE_CHECKING:
    import tifffile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCC, LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS: dict[int, Colours] = {
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
_FORMATS = {1: "unsigned", 2: "signed integer", 3: "float", 4: "untyped", 5: "complex integer", 6: "complex"}
_NO_COLOURS = ("", "gray", "undefined", "alpha")  # of GDAL's colour interpretations
_CHANNELS = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}


def check_tags(page: tifffile.TiffPage, items: Sequence[Item]) -> None:
    """Refuses what `m3sr_jax.io.photos.tiff` does not apply.

    Args:
        page: the photo.
        items: GDAL's metadata of it.

    Raises:
        InputError: a tag or an item declares it; the message names it.
    """
    photometric = photometric_of(page)
    if photometric not in COLOURS:
        name = _OTHER_COLOURS.get(photometric, f"photometric {photometric}")
        raise InputError(f"its colours are {name}; save it as RGB")
    if sample_format(page) not in ("unsigned", "float") and photometric not in (LAB, ICC_LAB):
        raise InputError(f"found {sample_format(page)} samples; expected unsigned or floating-point ones")
    bits = tag(page, 258)
    if isinstance(bits, tuple) and len(set(bits)) > 1:
        raise InputError(f"found samples of {', '.join(map(str, bits))} bits; expected equal ones")
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
    _check_scale(items)


def _check_inks(page: tifffile.TiffPage) -> None:
    inks = tag(page, 334)
    if tag(page, 332) not in (None, 1) or inks not in (None, 4) or page.samplesperpixel < 4:
        raise InputError(f"found {inks or page.samplesperpixel} inks; expected cyan, magenta, yellow and black")
    dots = tag(page, 336)
    if dots is not None and tuple(np.ravel(dots)[:2]) != (0, 2**page.bitspersample - 1):
        raise InputError("its DotRange declares a range of its own; save it without")


def _check_scale(items: Sequence[Item]) -> None:
    """Refuses a scale, an offset or a unit with one, which GDAL stores for samples that are no codes of a photo."""
    for item in items:
        plain = {"scale": 1.0, "offset": 0.0}.get(item.role)
        try:
            changed = plain is not None and float(item.text) != plain
        except ValueError:
            changed = True
        if changed or (item.role == "unittype" and unit_divisor(item.text)):
            declared = f"{item.role} {item.text[:60]}"
            raise InputError(f"its GDAL_METADATA declares {declared}; expected a photo with codes as they are")


def declared_colours(path: Path, page: tifffile.TiffPage, notes: list[str]) -> ColourSpace | None:
    """Returns the space that TransferFunction, WhitePoint, PrimaryChromaticities or EXIF declare; a profile precedes.

    Raises:
        InputError: one of them cannot be applied.
    """
    from PIL import Image

    if page.iccprofile is not None:
        return None
    table, primaries = tag(page, 301), chromaticities(tag_numbers(page, 318), tag_numbers(page, 319))
    if table is not None:
        checked = declared_space("PrimaryChromaticities", primaries or SRGB_PRIMARIES, None)
        curve = _transfer_function(np.asarray(table), page.bitspersample)
        return ColourSpace("TransferFunction", checked.primaries, curve=curve)
    space = None
    if {318, 319, 34665} & {entry.code for entry in page.tags}:
        exif = Image.Exif()
        exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
        with BoundedFile(path) as file:
            exif.load_from_fp(file, page.offset)
            space = exif_space(exif, notes)
    if space is None and page.dtype is not None and page.dtype.kind == "f":
        notes.append("float samples without a profile taken as sRGB-encoded")
    return space


def _transfer_function(table: np.ndarray, bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from samples to light that a TransferFunction of 2^bits or 3·2^bits entries is."""
    if bits > 16 or table.size not in (2**bits, 3 * 2**bits):
        raise InputError("its TransferFunction is damaged; save it without")
    curves = np.broadcast_to(table.reshape(-1, 2**bits) / 65535, (3, 2**bits))
    codes = np.linspace(0, 1, 2**bits)

    def curve(values: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(values[..., i], codes, curves[i]) for i in range(3)], axis=-1)

    return curve


def channel_order(items: Sequence[Item], colours: int) -> list[int] | None:
    """Returns which samples are red, green and blue by the names that GDAL stores; None if none are named.

    Wavelengths count as names too.

    Raises:
        InputError: the samples have names, but not those of red, green and blue.
    """
    names: dict[int, str] = {}
    for item in sorted(items, key=lambda item: item.role == ""):
        named = item.role in ("description", "colorinterp") or item.name.lower() in WAVELENGTH_NAMES
        if named and item.band != WHOLE_FILE and item.text.lower() not in _NO_COLOURS:
            names.setdefault(item.band, item.text)
    known = {_CHANNELS.get(name.lower()): number for number, name in sorted(names.items(), reverse=True)}
    if {"R", "G", "B"} <= set(known):
        return [known["R"], known["G"], known["B"]]
    if len(names) >= colours > 1:
        raise InputError(f"its samples are named {', '.join(names.values())[:200]}; expected red, green and blue")
    return None


def range_notes(page: tifffile.TiffPage, items: Sequence[Item], samples: np.ndarray) -> list[str]:
    """Notes a largest value other than white's, and how many pixels hold the value that GDAL calls missing."""
    notes = []
    for code, name in ((281, "MaxSampleValue"), (341, "SMaxSampleValue")):
        value = np.ravel(tag(page, code) if code in page.tags else ())
        white = 1 if samples.dtype.kind == "f" else 2**page.bitspersample - 1
        if value.size and value.dtype.kind in "iuf" and value[0] != white:
            notes.append(f"{name} {value[0]:g} taken as a statistic: white is {white}")
    try:
        missing = float(next(item.text for item in items if item.role == "nodata"))
    except (StopIteration, ValueError):
        return notes
    count = int((samples == missing).all(axis=-1).sum())
    return notes + [f"{count} pixels hold the no-data value {missing:g} and were read as colours"] if count else notes


def photometric_of(page: tifffile.TiffPage) -> int:
    """Returns the PhotometricInterpretation, which a TIFF must have."""
    if 262 not in page.tags:
        raise InputError("it has no PhotometricInterpretation, which would say what its samples mean; save it again")
    return int(page.photometric)


def sample_format(page: tifffile.TiffPage) -> str:
    """Returns the SampleFormat in a word."""
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


def tag(page: tifffile.TiffPage, code: int) -> Any:
    """Returns a tag's value, or None."""
    found = page.tags.get(code)
    return None if found is None else found.value
