"""JPEG 2000 photos (JP2 files and bare codestreams), grey or RGB of up to 16 bits.

Source: ISO/IEC 15444-1, annexes A (codestream) and I (JP2).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.boxes import boxes
from m3sr_jax.io.photos.colour import as_codes, divide_by_alpha
from m3sr_jax.io.photos.photo import Stored
from m3sr_jax.io.photos.pillow import check_pixels
from m3sr_jax.io.photos.spaces import ColourSpace

_SRGB, _GREY = 16, 17
_STREAM = b"\xff\x4f\xff\x51"
_PREMULTIPLIED = 2


def read_jpeg2000(path: Path) -> Stored:
    """Reads a JPEG 2000 photo; alpha is dropped, after division if colours are premultiplied.

    Raises:
        InputError: its boxes declare a palette, signed samples, or colours other than sRGB, grey or a profile.
    """
    import imagecodecs

    content = path.read_bytes()
    height, width, bits, count = _sizes(path, content)
    icc, space, alpha, notes = None, None, 0, ["no colour space is stated: taken as sRGB"]
    if not content.startswith(_STREAM):
        icc, space, alpha = _declared(dict(boxes(content)), count)
        notes = []
    # Of a whole JP2, the decoder would apply the profile, which `finish` applies.
    samples = imagecodecs.jpeg2k_decode(content[content.index(_STREAM) :])
    if samples.shape[:2] != (height, width):
        raise InputError(f"found {samples.shape[:2]} samples; expected {height}×{width}, as its header says")
    samples = as_codes(samples[..., None] if samples.ndim == 2 else samples, bits)
    colours = "grey" if count < 3 else "rgb"
    coloured = samples[..., : 1 if count < 3 else 3]
    if alpha == _PREMULTIPLIED:
        coloured = divide_by_alpha(coloured, samples[..., count - 1 :])
        notes.append("premultiplied alpha divided out")
    return Stored(coloured, colours, "JPEG 2000", bits, icc=icc, space=space, notes=notes)


def jpeg2000_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) from the header alone."""
    return _sizes(path, path.read_bytes())[:2]


def _sizes(path: Path, content: bytes) -> tuple[int, int, int, int]:
    """Reads the codestream's SIZ marker: height, width, bits and number of components."""
    start = content.find(_STREAM)
    if start < 0 or len(content) < start + 46:
        raise InputError("it has no codestream; copy it again")
    width, height, left, top = struct.unpack_from(">4I", content, start + 8)
    (count,) = struct.unpack_from(">H", content, start + 40)
    parts = content[start + 42 : start + 42 + 3 * count]
    size = (height - top, width - left)
    if min(size) <= 0 or not 1 <= count <= 4 or len(parts) < 3 * count:
        raise InputError(f"found {count} components of {size[1]}×{size[0]}; expected grey or RGB")
    depths = set(parts[::3])
    if len(depths) > 1 or max(depths) > 15 or set(parts[1::3]) | set(parts[2::3]) != {1}:
        raise InputError("found signed, subsampled or unequal components; expected equal ones of up to 16 bits")
    check_pixels(path, size, count * (2 if max(depths) > 7 else 1))
    return *size, parts[0] + 1, count


def _declared(file: dict[bytes, bytes], count: int) -> tuple[bytes | None, ColourSpace | None, int]:
    """Returns the profile, the space and the kind of alpha of a JP2's header."""
    header = boxes(file.get(b"jp2h", b""))
    kinds = dict(header)
    if b"pclr" in kinds or b"cmap" in kinds:
        raise InputError("found a palette; save it as RGB")
    alpha = _alpha(kinds.get(b"cdef"), count)
    colour = next((data for kind, data in header if kind == b"colr"), b"")
    if len(colour) < 4:
        raise InputError("it declares no colour space; save it as PNG or TIFF")
    if colour[0] in (2, 3):
        return colour[3:], None, alpha
    number = int.from_bytes(colour[3:7], "big")
    if colour[0] != 1 or number != (_GREY if count < 3 else _SRGB):
        raise InputError(f"it declares colour space {number}; expected sRGB ({_SRGB}) or grey ({_GREY})")
    return None, ColourSpace("sRGB"), alpha


def _alpha(cdef: bytes | None, count: int) -> int:
    """Returns what the last component is by the channel definitions: 0 a colour, 1 alpha, 2 premultiplied alpha."""
    if cdef is None:
        return 1 if count in (2, 4) else 0
    entries = np.frombuffer(cdef[2 : 2 + len(cdef[2:]) // 6 * 6], ">u2").reshape(-1, 3)
    colours = {int(channel): int(meaning) for channel, kind, meaning in entries if kind == 0}
    if any(meaning != channel + 1 for channel, meaning in colours.items()):
        raise InputError("its channel definitions reorder the colours; save it as PNG or TIFF")
    return next((int(kind) for _, kind, _ in entries if kind), 0)
