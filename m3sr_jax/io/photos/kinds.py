"""Which format a picture has, by its first bytes: a name may lie."""

from __future__ import annotations

import re
from pathlib import Path

from m3sr_jax.errors import InputError

HEAD_BYTES = 64

# Formats that are read, with the suffixes of their files.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WebP": (".webp",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpc"),
    "raw": (
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".rwl"),
        *(".pef", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".mef", ".mos", ".erf", ".dcr", ".kdc", ".gpr"),
    ),
}
PHOTO_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
EXPECTED = "expected JPEG, PNG, TIFF, BMP, WebP, AVIF, HEIC, JPEG 2000 or a camera's raw file"

_FIRST_BYTES: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff\xf7", "JPEG-LS"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"II\*\0.{4}CR", "raw"),  # CR2
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
    (rb"BM.{4}.{4}.{4}[\x0c-\x7c]\0\0\0", "BMP"),
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb".{4}ftyp(avif|avis)", "AVIF"),
    (rb".{4}ftypcrx ", "raw"),  # CR3
    (rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "HEIC"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|\0MRM|FOVb|II..\0\0HEAPCCDR", "raw"),
    # Formats that are not read, named in messages.
    (rb"GIF8[79]a", "GIF"),
    (rb"P[1-7][\s#]", "PPM"),
    (rb"P[Ff]\n", "PFM"),
    (rb"8BP[SB]", "Photoshop"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"II\xbc\x01", "JPEG XR"),
    (rb"\xff\xd8", "JPEG"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"%PDF", "PDF"),
    (rb"gimp xcf", "GIMP"),
    (rb"DDS ", "DDS"),
    (rb"qoif", "QOI"),
    (rb"SIMPLE  =", "FITS"),
    (rb".{4}ftyp(isom|iso[2-9]|mp4[12]|avc1|qt  |M4V |3gp)", "a video"),
    (rb"icns", "Apple icon"),
    (rb"\x01\xda[\x00\x01][\x01\x02]", "SGI"),
    (rb"\x0a[\x00-\x05]\x01[\x01\x02\x04\x08]", "PCX"),
    (rb"\0\0\x01\0.\0", "Windows icon"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,40})?<svg", "SVG"),
)
# What a failed download leaves in a photo's place.
_NO_PICTURES: tuple[tuple[bytes, str], ...] = (
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|\?xml)", "a web page"),
    (rb"version https://git-lfs", "a Git LFS pointer"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf", "an archive"),
)


def _compiled(table: tuple[tuple[bytes, str], ...], flags: int = 0) -> tuple[tuple[re.Pattern[bytes], str], ...]:
    return tuple((re.compile(pattern, re.DOTALL | flags), name) for pattern, name in table)


_PATTERNS = _compiled(_FIRST_BYTES)
_NO_PICTURE_PATTERNS = _compiled(_NO_PICTURES, re.IGNORECASE)


def picture_format(path: Path) -> str | None:
    """Returns the name of a picture's format, whether it is read or not; None if its first bytes are unknown.

    A TIFF's first bytes do not say whether it is a camera's raw file; its suffix may.

    Raises:
        OSError: the file cannot be opened.
    """
    head = _head(path)
    found = _match(_PATTERNS, head)
    if found == "HEIC" and b"avif" in head[16:]:  # a container of any codec that lists AV1 among its brands
        found = "AVIF"
    return "raw" if found == "TIFF" and path.suffix.lower() in SUFFIXES["raw"] else found


def readable_format(path: Path) -> str:
    """Returns the format of a file that is to be read as a photo; call it inside `m3sr_jax.io.files.reading`.

    Raises:
        InputError: it is of another format, which the message names.
    """
    found = picture_format(path)
    if found is None:
        other = _match(_NO_PICTURE_PATTERNS, _head(path))
        reason = f"it is {other}; download or unpack the photo" if other else f"unknown format; {EXPECTED}"
        raise InputError(f"{path}: cannot be read as an image ({reason if path.stat().st_size else 'it is empty'})")
    if found not in SUFFIXES:
        raise InputError(f"{path}: cannot be read as an image: it is {found}; convert it to PNG or TIFF first")
    return found


def misnamed(path: Path, found: str) -> str | None:
    """Returns a note if the suffix belongs to another format than the one found."""
    meant = next((name for name, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)
    return None if meant in (None, found) else f"named {path.suffix}, is {found}"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _match(patterns: tuple[tuple[re.Pattern[bytes], str], ...], head: bytes) -> str | None:
    return next((name for pattern, name in patterns if pattern.match(head)), None)
