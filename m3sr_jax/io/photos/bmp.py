"""BMP photos, with the colour space that headers of version 4 and 5 declare. Source: Microsoft, BITMAPV5HEADER."""

from __future__ import annotations

import struct
from pathlib import Path

from m3sr_jax.errors import InputError
from m3sr_jax.io.photos.photo import Stored
from m3sr_jax.io.photos.pillow import open_image, pixels

_HEADER = 14  # bytes of the file header before BITMAP…HEADER
_V4_SIZE, _V5_SIZE = 108, 124


def read_bmp(path: Path) -> Stored:
    """Reads a BMP of any header; alpha is dropped.

    Raises:
        InputError: it declares colours that cannot be applied.
    """
    icc = _profile(path)
    with open_image(path, "BMP") as image:
        return Stored(pixels(image, "RGB"), "rgb", "BMP", 8, icc=icc)


def _profile(path: Path) -> bytes | None:
    with path.open("rb") as file:
        head = file.read(_HEADER + _V5_SIZE).ljust(_HEADER + _V5_SIZE, b"\0")
        (size,) = struct.unpack_from("<I", head, _HEADER)
        if size < _V4_SIZE:
            return None
        space = head[_HEADER + 56 : _HEADER + 60][::-1]  # four letters, stored as a little-endian number
        if space in (b"sRGB", b"Win "):
            return None
        if space == bytes(4):
            if any(head[_HEADER + 60 : _HEADER + 108]):
                raise InputError("its header declares calibrated RGB of its own; convert it to sRGB")
            return None
        if space == b"MBED" and size >= _V5_SIZE:
            offset, length = struct.unpack_from("<II", head, _HEADER + 112)
            file.seek(_HEADER + offset)
            return file.read(min(length, path.stat().st_size))
    if space == b"LINK":
        raise InputError("its header names a colour profile in another file; convert it to sRGB")
    raise InputError("its header declares an unknown colour space; convert it to sRGB")
