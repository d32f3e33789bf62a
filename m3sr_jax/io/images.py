"""Photos on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading


def read_rgb(path: str | os.PathLike[str]) -> Float32[np.ndarray, "H W 3"]:
    """Reads a photo: JPEG, PNG, BMP or TIFF with 8 or 16 bits.

    Turned upright as its EXIF data say (but for 16-bit colour TIFFs); grey becomes three equal channels, a palette
    colours, and alpha is dropped. Of 16-bit colour PNGs Pillow gives the upper 8 bits; grey PNGs and TIFFs keep all 16.

    Returns:
        code / largest code, in [0, 1].

    Raises:
        InputError: a file that is missing, damaged, or no such image.
    """
    path = Path(path)
    with reading(path, "an image"):
        codes = _codes(path)
    if codes.dtype not in (np.uint8, np.uint16) or codes.ndim not in (2, 3):
        raise InputError(f"{path}: found {codes.dtype} values of shape {codes.shape}; expected an 8- or 16-bit image")
    if codes.ndim == 2:
        codes = codes[..., None]
    codes = codes[..., :3] if codes.shape[-1] >= 3 else np.repeat(codes[..., :1], 3, axis=-1)
    return np.divide(codes, np.float32(np.iinfo(codes.dtype).max), dtype=np.float32, order="C")


def _codes(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if image.format == "TIFF":
            pages, bits = getattr(image, "n_frames", 1), image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
            if pages > 1:
                raise InputError(f"{path}: found {pages} pages; expected one photo")
            if len(bits) > 1 and max(bits) > 8:
                import tifffile

                codes = tifffile.imread(path)  # Pillow would give the upper 8 bits
                return np.moveaxis(codes, 0, -1) if codes.shape[1:] == (image.height, image.width) else codes
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
            codes = np.asarray(upright)
            return codes.astype(codes.dtype.newbyteorder("="))
        return np.asarray(upright.convert("RGB"))
