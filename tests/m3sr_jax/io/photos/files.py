"""Small photos with declarations, made in code: ICC profiles, PNG chunks, a raw file."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

P3 = {"whitepoint": (0.3127, 0.329), "primaries": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), "gamma": 2.2}
PROPHOTO = {"whitepoint": (0.3457, 0.3585), "primaries": (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), "gamma": 1.8}
BT2020 = {"whitepoint": (0.3127, 0.329), "primaries": (0.708, 0.292, 0.17, 0.797, 0.131, 0.046), "gamma": 2.4}


def profiles():
    """RGB profiles that photos carry, by name."""
    made = {name: imagecodecs.cms_profile("rgb", **fields) for name, fields in (("p3", P3), ("prophoto", PROPHOTO))}
    made["bt2020"] = imagecodecs.cms_profile("rgb", **BT2020)
    return made | {"adobe": imagecodecs.cms_profile("adobergb")}


def srgb_profile():
    return imagecodecs.cms_profile("srgb")


def by_littlecms(image, icc):
    """What Pillow's littleCMS makes of an image, in sRGB's 8-bit codes."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(converted)


def with_tag(icc, name, content):
    """Adds a tag to a profile."""
    (count,) = struct.unpack_from(">I", icc, 128)
    table = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(count)]
    moved = b"".join(struct.pack(">4sII", kind, offset + 12, size) for kind, offset, size in table)
    data = icc[132 + 12 * count :]
    entry = struct.pack(">4sII", name, len(icc) + 12, len(content))
    whole = icc[:128] + struct.pack(">I", count + 1) + moved + entry + data + content
    return struct.pack(">I", len(whole)) + whole[4:]


def renamed(icc, old, new):
    """Replaces bytes of a profile, such as its class, by as many others."""
    assert old in icc
    assert len(old) == len(new)
    return icc.replace(old, new, 1)


def cmyk_profile():
    """An ICC 2 profile with a table of 2×2×2×2 colours."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(-1, 4)
    rgb = (1 - corners[:, :3] * [0.9, 0.8, 0.95]) * (1 - 0.95 * corners[:, 3:])
    matrix = np.array([[0.43607, 0.38506, 0.14308], [0.22250, 0.71688, 0.06062], [0.01393, 0.09710, 0.71417]])
    f = np.cbrt(rgb @ matrix.T / [0.96422, 1, 0.82521])
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
    table = np.rint(lab * [2.55, 1, 1] + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table.tobytes() + ramp * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 10) + b"Test inks\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    head, data, entries = bytearray(128), b"", b""
    for name, content in ((b"desc", text), (b"wtpt", white), (b"A2B0", lut)):
        entries += struct.pack(">4sII", name, 128 + 4 + 36 + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head[8:24] = bytes([2, 0x40, 0, 0]) + b"prtrCMYKLab "
    head[36:40], head[68:80] = b"acsp", struct.pack(">3i", 63190, 65536, 54061)
    whole = bytes(head) + struct.pack(">I", 3) + entries + data
    return struct.pack(">I", len(whole)) + whole[4:]


def png(codes, *chunks):
    """A PNG of 8- or 16-bit grey or RGB codes, alpha allowed, with chunks of (name, content) before the pixels."""
    height, width, channels = codes.shape
    depth, kind = codes.dtype.itemsize * 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(codes.dtype.newbyteorder(">")).tobytes() for row in codes)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def opcodes(*numbers):
    """A list of a DNG's opcodes, each with 8 bytes of zeros."""
    return struct.pack(">I", len(numbers)) + b"".join(
        struct.pack(">4I", number, 0x01030000, 0, 8) + bytes(8) for number in numbers
    )


def write_dng(path, mosaic, *, orientation=1, neutral=(0.5, 1.0, 0.8), tags_of_mosaic=()):
    """A DNG of a Bayer mosaic (RGGB) of a camera whose own colours are XYZ, with an 8-bit thumbnail first."""
    thumbnail = np.full((8, 12, 3), 90, np.uint8)
    unit = tuple(int(value) for number in np.eye(3).ravel() for value in (number * 1000, 1000))
    white = tuple(int(value) for number in neutral for value in (number * 1000, 1000))
    tags = [
        *((50706, 1, 4, b"\1\4\0\0", True), (50707, 1, 4, b"\1\1\0\0", True), (50708, 2, 0, "Some Camera", True)),
        *((271, 2, 0, "Maker", True), (272, 2, 0, "Some Camera", True), (274, 3, 1, orientation, True)),
        *((50721, 10, 9, unit, True), (50728, 5, 3, white, True), (50778, 3, 1, 21, True)),
    ]
    pattern = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True), (50717, 3, 1, 65535, True)]
    pattern += tags_of_mosaic
    with tifffile.TiffWriter(path) as file:
        file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=tags)
        file.write(mosaic, photometric=32803, subfiletype=0, metadata=None, extratags=pattern)


def chart(side=24):
    """Random 8-bit colours."""
    return np.random.default_rng(0).integers(0, 256, (side, side + 3, 3)).astype(np.uint8)


def as_image(codes):
    return Image.fromarray(codes)
