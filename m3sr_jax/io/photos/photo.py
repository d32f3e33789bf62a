"""What a photo is once read, and what a reader hands over before colours are converted."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped

from m3sr_jax.io.photos.spaces import ColourSpace

Encoding = Literal["srgb", "linear"]
Colours = Literal["grey", "rgb", "cmyk", "lab"]
GAIN_MAP_NOTE = "HDR gain map not applied: the SDR picture was read"
TURNED_NOTE = "turned upright, as its orientation says"


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo in sRGB's primaries, upright.

    Attributes:
        codes: (H, W, 3); uint8 or uint16 codes, or float32 in [0, 1].
        encoding: "srgb": codes follow sRGB's curve, stated or assumed; "linear": they are proportional to light.
        format: "JPEG", "PNG", "TIFF", "BMP", "WebP", "AVIF", "HEIC", "JPEG 2000" or "raw".
        bits: bits of a stored sample.
        profile: the colour space that the file states: the profile's name, "Adobe RGB (1998)", …; None if it states
            none and sRGB was assumed.
        notes: what was converted, dropped or assumed, each a short phrase.
    """

    codes: Shaped[np.ndarray, "H W 3"]
    encoding: Encoding
    format: str
    bits: int
    profile: str | None
    notes: tuple[str, ...]

    @property
    def rgb(self) -> Float32[np.ndarray, "H W 3"]:
        """The photo in [0, 1]: code / largest code; computed anew for integer codes."""
        return unit_range(self.codes)


@dataclasses.dataclass
class Stored:
    """The samples of a file with what it declares about them.

    Attributes:
        samples: (H, W, C), uint8, uint16, or float32 in [0, 1]; not yet upright. Lab: L* a* b* in float32.
        colours: what the C samples mean: 1 grey, 3 RGB or Lab, 4 CMYK (0: no ink).
        format: as in `Photo`.
        bits: bits of a stored sample.
        orientation: EXIF orientation, 1 to 8; others count as 1.
        icc: an embedded profile, which precedes `space`.
        space: the colour space that the file declares by other means.
        notes: as in `Photo`.
    """

    samples: Shaped[np.ndarray, "H W C"]
    colours: Colours
    format: str
    bits: int
    orientation: int = 1
    icc: bytes | None = None
    space: ColourSpace | None = None
    notes: list[str] = dataclasses.field(default_factory=list)


def largest_code(dtype: np.dtype) -> float:
    """Returns the code of white: the type's largest integer, or 1."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def unit_range(codes: Shaped[np.ndarray, "*S"]) -> Float32[np.ndarray, "*S"]:
    """Returns code / largest code in C order."""
    if codes.dtype == np.float32:
        return np.ascontiguousarray(codes)
    return np.divide(codes, np.float32(largest_code(codes.dtype)), dtype=np.float32, order="C")


def upright(codes: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation, 1 to 8: above 4 rows and columns are swapped; some also reverse an axis."""
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    codes = np.swapaxes(codes, 0, 1) if orientation > 4 else codes
    return codes[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns (height, width) after `upright`."""
    height, width = size
    return (width, height) if orientation in range(5, 9) else (height, width)
