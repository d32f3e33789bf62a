"""Ways to damage a file: its bytes, numbers and parts, and the content below a format's checksums."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

# Values that break parsers: signs, ends of ranges, 10^12 elements.
NUMBERS = (-1, 0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1)
WORDS = (*("nan", "inf", "-1", "0", "1e999", "9" * 30, "9" * 5000, "1e12"), *("", "x", "../../x", "²", "\0", *"{}[="))
VALUES = (
    *(None, True, -1, 0, 1, 10**12, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "../../etc/passwd"),
    *("object", "é\n", [], {}, [0], [1, 2, 3], {"a": 1}, [[]], "9" * 5000),
)
Damage = Callable[[Random, bytes], bytes]


def damage_bytes(random: Random, content: bytes) -> bytes:
    """Damages one to three places, whatever the format."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_DAMAGES)(random, content)
    return content


def damage_zip(random: Random, content: bytes) -> bytes:
    """Damages one entry of an archive, or its name, and repacks it with valid checksums; sometimes the raw bytes."""
    if random.random() < 0.4:
        return damage_bytes(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = random.randrange(len(entries))
    name, entry = entries[at]
    if random.random() < 0.1:
        name = random.choice(("../../x.npy", "/x", name + "/", "x", name * 2))
    entries[at] = (name, damage_bytes(random, entry))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, entry in entries:
            archive.writestr(name, entry)
    return packed.getvalue()


def damage_png(random: Random, content: bytes) -> bytes:
    """Damages a PNG chunk, or the pixels below the compression, and updates the checksum."""
    if random.random() < 0.2:
        return damage_bytes(random, content)
    chunks, start = [], 8
    while start < len(content):
        (length,) = struct.unpack_from(">I", content, start)
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + length]))
        start += 12 + length
    at = random.randrange(len(chunks))
    kind, data = chunks[at]
    inside = kind == b"IDAT" and random.random() < 0.5
    data = zlib.compress(damage_bytes(random, zlib.decompress(data))) if inside else damage_bytes(random, data)
    chunks[at] = (kind, data)
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def damage_json(random: Random, content: bytes) -> bytes:
    """Replaces a value, removes or adds a key, or damages the text."""
    if random.random() < 0.2:
        return damage_bytes(random, content)
    values = json.loads(content)
    at: Any = values
    while True:
        places = list(at) if isinstance(at, dict) else list(range(len(at)))
        place = random.choice(places) if places else None
        deeper = at[place] if place is not None else None
        if not isinstance(deeper, dict | list) or not deeper or random.random() < 0.2:
            break
        at = deeper
    change = random.random()
    if place is None or change < 0.1:
        deep = b"[" * 100_000
        return random.choice((deep, b"null", b"[]", b"3", b'"x"', json.dumps(random.choice(VALUES[:5])).encode()))
    if change < 0.2:
        del at[place]
    elif change < 0.3 and isinstance(at, dict):
        at[random.choice(("x", "name", "size", "é"))] = random.choice(VALUES)
    else:
        at[place] = random.choice(VALUES)
    return _to_json(values)


def _to_json(values: Any) -> bytes:
    return re.sub(rb'"(9{5000})"', rb"\1", json.dumps(values).encode())  # more digits than int() accepts


def _truncate(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _flip_bits(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 32))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite_number(random: Random, content: bytes) -> bytes:
    """Overwrites a binary number, most often a small one, as array extents are."""
    code = random.choice("BHIQ")
    size = struct.calcsize(code)
    places = range(max(len(content) - size, 0))
    if not places:
        return content
    order = random.choice("<>")
    small = [at for at in places[: 1 << 14] if 0 < struct.unpack_from(order + code, content, at)[0] < 100]
    place = random.choice(small) if small and random.random() < 0.7 else random.choice(places)
    number = random.choice(NUMBERS) & (256**size - 1)
    return content[:place] + struct.pack(order + code, number) + content[place + size :]


def _overwrite_text_number(random: Random, content: bytes) -> bytes:
    """Overwrites a number in text with a word or another number."""
    words = list(re.finditer(rb"[\d.]+", content[: 1 << 14]))
    if not words:
        return content
    match = random.choice(words)
    word = random.choice((*WORDS, *map(str, NUMBERS)))
    return content[: match.start()] + word.encode() + content[match.end() :]


def _splice(random: Random, content: bytes) -> bytes:
    """Deletes, copies or moves a piece."""
    first, second = sorted(random.randrange(len(content) + 1) for _ in range(2))
    piece = content[first:second][: random.choice((4, 16, 64, 1024, 1 << 20))]
    rest = content if random.random() < 0.5 else content[:first] + content[first + len(piece) :]
    if random.random() < 0.3:
        return rest
    place = random.randrange(len(rest) + 1)
    return rest[:place] + piece * random.choice((1, 1, 2, 50)) + rest[place:]


def _add_noise(random: Random, content: bytes) -> bytes:
    place = random.randrange(len(content) + 1)
    count = random.choice((1, 4, 64))
    noise = bytes(random.choice((0, 255, random.randrange(256))) for _ in range(count))
    return content[:place] + noise + content[place + random.choice((0, count)) :]


_DAMAGES: tuple[Damage, ...] = (
    *(_truncate, _flip_bits, _flip_bits, _overwrite_number, _overwrite_number, _overwrite_number),
    *(_overwrite_text_number, _overwrite_text_number, _splice, _add_noise),
)
