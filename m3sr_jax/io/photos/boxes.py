"""The boxes of AVIF, HEIC and JPEG 2000 files: what they declare about size and colours.

Source: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), 15444-1 (JP2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from m3sr_jax.errors import InputError

MAX_BOXES = 10_000


@dataclass(frozen=True)
class Item:
    """What the primary item's properties declare.

    Attributes:
        sizes: (height, width) of every item in the file.
        nclx: primaries, transfer, matrix, full range; None if there are none.
        icc: the profile; None if there is none.
        bits: the largest number of bits of a channel; None if not declared.
        cropped: whether a part of the picture is to be cut out ("clap").
        turned: whether it is to be rotated or mirrored ("irot", "imir").
        gain_map: whether the file adds an HDR gain map ("tmap") to the picture.
    """

    sizes: tuple[tuple[int, int], ...]
    nclx: tuple[int, int, int, int] | None
    icc: bytes | None
    bits: int | None
    cropped: bool
    turned: bool
    gain_map: bool


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Splits bytes into (type, content); an incomplete last box is cut.

    Raises:
        InputError: a box is shorter than its own header, or there are too many.
    """
    found, at = [], 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        header = 8
        if length == 1 and at + 16 <= len(content):
            (length,), header = struct.unpack_from(">Q", content, at + 8), 16
        elif length == 0:
            length = len(content) - at
        if length < header or len(found) >= MAX_BOXES:
            raise InputError(f"its box {kind!r} is damaged; copy it again".replace("b'", "'"))
        found.append((kind, content[at + header : at + length]))
        at += length
    return found


def primary_item(content: bytes) -> Item:
    """Reads the properties of a HEIF file's primary item.

    Raises:
        InputError: the file is damaged or has no such item.
    """
    meta = dict(boxes(content)).get(b"meta")
    if meta is None:
        raise InputError("it has no meta box, which lists its images; copy it again")
    inside = dict(boxes(meta[4:]))
    properties = dict(boxes(inside.get(b"iprp", b"")))
    listed = boxes(properties.get(b"ipco", b""))
    pitm = inside.get(b"pitm", b"")
    if len(pitm) < 6 or b"ipma" not in properties:
        raise InputError("it names no primary image; copy it again")
    primary = int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8], "big")
    indices = _associations(properties[b"ipma"]).get(primary, ())
    own = [listed[index - 1] for index in indices if 0 < index <= len(listed)]
    colours = {data[:4]: data[4:] for kind, data in own if kind == b"colr"}
    nclx = colours.get(b"nclx")
    depths = [data[5:] for kind, data in own if kind == b"pixi" and len(data) > 5]
    extents = [struct.unpack(">II", data[4:12]) for kind, data in listed if kind == b"ispe" and len(data) >= 12]
    return Item(
        sizes=tuple((height, width) for width, height in extents),
        nclx=(*struct.unpack(">HHH", nclx[:6]), nclx[6] >> 7) if nclx is not None and len(nclx) >= 7 else None,
        icc=colours.get(b"prof", colours.get(b"rICC")),
        bits=max(depths[0]) if depths else None,
        cropped=any(kind == b"clap" for kind, _ in own),
        turned=any(kind == b"imir" or (kind == b"irot" and any(data)) for kind, data in own),
        gain_map=b"tmap" in inside.get(b"iinf", b""),
    )


def _associations(ipma: bytes) -> dict[int, tuple[int, ...]]:
    """Returns item number → numbers of its properties, counted from 1."""
    version, flags = ipma[0], ipma[3]
    (count,), at, found = struct.unpack_from(">I", ipma, 4), 8, {}
    for _ in range(min(count, MAX_BOXES)):
        (item,) = struct.unpack_from(">H" if version < 1 else ">I", ipma, at)
        at += 2 if version < 1 else 4
        number, at = ipma[at], at + 1
        wide = flags & 1
        values = struct.unpack_from(f">{number}{'H' if wide else 'B'}", ipma, at)
        at += number * (2 if wide else 1)
        found[item] = tuple(value & (0x7FFF if wide else 0x7F) for value in values)
    return found
