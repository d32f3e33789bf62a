"""PNG photos: up to 16 bits, and the chunks that declare colours.

Source: PNG (Third Edition), W3C 2025: cICP precedes iCCP, which precedes sRGB, which precedes gAMA and cHRM.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import BoundedFile
from m3sr_jax.io.photos.exif import exif_space
from m3sr_jax.io.photos.photo import Stored, upright_size
from m3sr_jax.io.photos.pillow import check_pixels, exif_of, open_image, orientation_of, pixels
from m3sr_jax.io.photos.spaces import SRGB_PRIMARIES, ColourSpace, cicp_space, declared_space

MAX_CHUNKS = 1_000_000
# Only these chunks' contents are kept, with their exact or largest sizes.
_KEPT = {b"IHDR": 13, b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"iCCP": 0, b"acTL": 8, b"CgBI": 4}
# These may have an orientation.
_ORIENTING = {b"eXIf", b"iTXt", b"zTXt"}
_GREY = (0, 4)


def read_png(path: Path) -> Stored:
    """Reads a PNG; alpha is dropped, not blended: a transparent pixel keeps its stored colour.

    Raises:
        InputError: a chunk declares colours that cannot be applied.
    """
    chunks = _chunks(path)
    width, height, bits, kind = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    colours = "grey" if kind in _GREY else "rgb"
    if b"CgBI" in chunks:
        raise InputError("it is in Apple's variant of PNG (CgBI), premultiplied and of swapped channels; save it again")
    notes = ["the still picture of an animation was read"] if b"acTL" in chunks else []
    with open_image(path, "PNG") as image:
        if bits == 16:
            check_pixels(path, (height, width), 8)
            samples = _sixteen_bits(path)[..., : 1 if colours == "grey" else 3]
        else:
            samples = pixels(image, "L" if colours == "grey" else "RGB")
        image.load()  # chunks behind the pixels
        icc = image.info.get("icc_profile")
        if b"iCCP" in chunks and not icc and b"cICP" not in chunks:
            raise InputError("its iCCP chunk is damaged; save the photo with another profile")
        space = _space(chunks, notes)
        icc = None if b"cICP" in chunks else icc
        exif = exif_of(image, notes)
        if icc is None and space is None:
            space = exif_space(exif, notes)
        return Stored(samples, colours, "PNG", bits, orientation_of(image), icc, space, notes)


def png_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the upright photo; pixels are decoded only if an orientation may follow them."""
    with BoundedFile(path) as file:
        names = [name for name, _ in _heads(file)]
    with open_image(path, "PNG") as image:
        if b"IDAT" in names and _ORIENTING & set(names[names.index(b"IDAT") :]):
            image.load()
        return upright_size((image.height, image.width), orientation_of(image))


def _space(chunks: dict[bytes, bytes], notes: list[str]) -> ColourSpace | None:
    """Returns the space of the colour chunks, the profile's aside."""
    if b"cICP" in chunks:
        primaries, transfer, matrix, full_range = chunks[b"cICP"]
        if matrix or full_range != 1:
            raise InputError(f"its cICP chunk declares matrix {matrix}, range {full_range}; expected full-range RGB")
        return cicp_space(primaries, transfer, "cICP chunk", notes)
    if b"sRGB" in chunks:
        return ColourSpace("sRGB")
    if not {b"gAMA", b"cHRM"} & set(chunks):
        return None
    primaries = SRGB_PRIMARIES
    if b"cHRM" in chunks:
        primaries = tuple(number / 100_000 for number in struct.unpack(">8I", chunks[b"cHRM"]))
    if b"gAMA" not in chunks:
        return declared_space("cHRM chunk", primaries, None)
    (number,) = struct.unpack(">I", chunks[b"gAMA"])
    return declared_space("gAMA chunk", primaries, 100_000 / number if number else np.inf)


def _sixteen_bits(path: Path) -> np.ndarray:
    """Reads 16-bit samples in full.

    Of colours Pillow keeps one byte of two, and the byte order says which: two passes give both. Of grey with alpha it
    gives the upper byte alone, so imagecodecs reads that.
    """
    with open_image(path, "PNG") as image:
        mode = image.tile[0].args
        if mode == "I;16B":
            return np.asarray(image).astype(np.uint16)[..., None]
    if mode not in ("RGB;16B", "RGBA;16B"):
        import imagecodecs

        return imagecodecs.png_decode(path.read_bytes())
    codes: np.ndarray | None = None
    for order, shift in (("B", 8), ("L", 0)):
        with open_image(path, "PNG") as image:
            image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
            half = pixels(image, "RGB")
        codes = half.astype(np.uint16) << shift if codes is None else np.bitwise_or(codes, half, out=codes)
    assert codes is not None
    return codes


def _chunks(path: Path) -> dict[bytes, bytes]:
    """Reads the chunks before the pixels that matter here; their checksums are left to the decoder."""
    found: dict[bytes, bytes] = {}
    with BoundedFile(path) as file:
        for name, length in itertools.takewhile(lambda head: head[0] != b"IDAT", _heads(file)):
            if name in (b"IHDR", b"cICP", b"sRGB", b"gAMA", b"cHRM") and length != _KEPT[name]:
                raise InputError(f"its {name.decode()} chunk has {length} bytes; expected {_KEPT[name]}")
            if name in _KEPT:
                found.setdefault(name, file.read(min(length, 64)))
    if b"IHDR" not in found:
        raise InputError("it has no IHDR chunk; copy it again")
    return found


def _heads(file: BoundedFile) -> Iterator[tuple[bytes, int]]:
    """Yields the name and length of each chunk, with the file at its content."""
    place = 8
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], length
        place += length + 12
