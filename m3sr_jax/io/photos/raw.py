"""A camera's raw files, developed by LibRaw into linear RGB with sRGB's primaries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import BoundedFile
from m3sr_jax.io.photos.dng import opcode_notes
from m3sr_jax.io.photos.photo import TURNED_NOTE, Stored, upright_size
from m3sr_jax.io.photos.pillow import check_pixels
from m3sr_jax.io.photos.spaces import ColourSpace

if TYPE_CHECKING:
    import rawpy

# A 14-bit sensor compresses to a tenth at best; LibRaw allocates the mosaic and four 16-bit channels.
_BYTES_PER_PIXEL = 2


def read_raw(path: Path) -> Stored:
    """Develops a raw photo: black level, the camera's white balance, demosaicing and its colour matrix.

    Brightness is not stretched and no curve applied: values are proportional to light, white is the sensor's clipping.

    Raises:
        InputError: rawpy is missing, LibRaw cannot read the file, or it leaves out a curve that the file declares.
    """
    import numpy as np

    corrections = opcode_notes(path)
    with _opened(path) as raw:
        import rawpy

        try:
            raw.unpack()
            balance = list(raw.camera_whitebalance)[:3]
            turned = raw.sizes.flip != 0
            known_colours = bool(np.any(raw.rgb_xyz_matrix)) or raw.num_colors == 1
            codes = raw.postprocess(
                gamma=(1, 1),
                no_auto_bright=True,
                adjust_maximum_thr=0.0,  # otherwise a photo's brightest sample, from 75 % of white on, becomes white
                output_bps=16,
                use_camera_wb=True,
                output_color=rawpy.ColorSpace.sRGB,
            )
        except rawpy.LibRawError as error:
            raise InputError(
                f"its raw data cannot be developed ({_reason(error)}); copy it again or export it as TIFF"
            ) from error
    white = "the camera's white balance" if min(balance) > 0 else "daylight white balance, as it states none"
    notes = [f"raw photo developed to linear RGB with {white}, brightness as exposed"]
    if not known_colours:
        notes.append("LibRaw knows no colour matrix for the camera: colours are the sensor's own")
    if turned:
        notes.append(TURNED_NOTE)
    notes += corrections
    return Stored(codes, "rgb" if codes.shape[-1] == 3 else "grey", "raw", 16, space=_LINEAR, notes=notes)


def raw_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the developed photo without developing it."""
    with _opened(path) as raw:
        return upright_size((raw.sizes.iheight, raw.sizes.iwidth), 6 if raw.sizes.flip in (5, 6) else 1)


_LINEAR = ColourSpace("raw data", gamma=1.0)


@contextmanager
def _opened(path: Path) -> Iterator[rawpy.RawPy]:
    try:
        import rawpy
    except ImportError as error:
        advice = "developing it takes rawpy: pip install 'm3sr-jax[raw]', or export it as TIFF"
        raise InputError(f"{path}: is a camera's raw photo; {advice}") from error
    with rawpy.RawPy() as raw, BoundedFile(path) as file:
        try:
            raw.open_buffer(file)
        except rawpy.LibRawError as error:
            raise InputError(
                f"it is a raw photo that LibRaw cannot read ({_reason(error)}); export it as TIFF"
            ) from error
        sizes = raw.sizes
        check_pixels(path, (max(sizes.raw_height, sizes.iheight), max(sizes.raw_width, sizes.iwidth)), _BYTES_PER_PIXEL)
        yield raw


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
