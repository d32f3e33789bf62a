"""Opcodes of a DNG: corrections that its maker declares and LibRaw leaves out. Source: DNG 1.7, chapter 7."""

from __future__ import annotations

import struct
from pathlib import Path

from m3sr_jax.errors import InputError
from m3sr_jax.io.tiff import open_tiff

OPCODE_LISTS = {51008: "OpcodeList1", 51009: "OpcodeList2", 51022: "OpcodeList3"}
OPCODES = {
    1: "WarpRectilinear",
    2: "WarpFisheye",
    3: "FixVignetteRadial",
    4: "FixBadPixelsConstant",
    5: "FixBadPixelsList",
    6: "TrimBounds",
    7: "MapTable",
    8: "MapPolynomial",
    9: "GainMap",
    10: "DeltaPerRow",
    11: "DeltaPerColumn",
    12: "ScalePerRow",
    13: "ScalePerColumn",
    14: "WarpRectilinear2",
}
CURVES = (7, 8)  # as in DNGs of Adobe's lossy compression, whose codes are not proportional to light
MAX_OPCODES = 1000
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def opcode_notes(path: Path) -> list[str]:
    """Notes the corrections of a DNG that are not applied; other raw files have none.

    Raises:
        InputError: one of them is a curve, without which the values are wrong.
    """
    import tifffile

    with path.open("rb") as file:
        if file.read(4) not in _TIFF:
            return []
    try:
        with open_tiff(path) as file:
            outer = file.pages.first
            found = [_names(tag.value, tag.code) for page in (outer, *(outer.pages or ())) for tag in _lists(page)]
    except tifffile.TiffFileError:  # LibRaw reads files that deviate from TIFF
        return []
    names = dict.fromkeys(name for names in found for name in names)
    return [f"corrections not applied: {', '.join(names)}"] if names else []


def _lists(page) -> list:
    return [page.tags[code] for code in OPCODE_LISTS if code in page.tags]


def _names(content: object, code: int) -> list[str]:
    """Returns the names of the opcodes in a list."""
    if not isinstance(content, bytes):
        return []
    (count,), at, names = struct.unpack_from(">I", content), 4, []
    for _ in range(min(count, MAX_OPCODES)):
        number, _, _, size = struct.unpack_from(">4I", content, at)
        name = OPCODES.get(number, f"opcode {number}")
        if number in CURVES:
            raise InputError(
                f"its {OPCODE_LISTS[code]} has the curve {name}, which LibRaw leaves out; export it as TIFF"
            )
        names.append(name)
        at += 16 + size
    return names
