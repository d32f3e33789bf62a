"""What the OME-XML of a TIFF declares about its channels. Source: the OME data model, schema 2016-06."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.gdal_items import plain_xml
from m3sr_jax.io.wavelengths import named_centres


def ome_channels(path: Path, description: str, bands: int) -> tuple[np.ndarray | None, str, int | None]:
    """Reads the channels of the first image in a TIFF's description.

    Args:
        path: the file, for messages.
        description: the text of the first page; any but OME-XML declares nothing.
        bands: their number.

    Returns:
        Wavelengths as stored (None if there are none), their unit, and the significant bits of a sample (None if they
        are not stated).

    Raises:
        InputError: the description is damaged, or has a wavelength for some channels alone.
    """
    if not re.match(r"\s*<(\?xml|OME\b)", description) or "<OME" not in description:
        return None, "", None
    root = plain_xml(path, "an OME description", description)
    pixels = next(root.iter(_tag(root.tag, "Pixels")), None)
    if pixels is None:
        return None, "", None
    bits = pixels.get("SignificantBits", "")
    significant = int(bits) if bits.isascii() and bits.isdigit() and 0 < int(bits) <= 64 else None
    channels = pixels.findall(_tag(root.tag, "Channel"))
    found = [channel.get("EmissionWavelength") for channel in channels]
    given = [text for text in found if text is not None]
    if given and (len(given) < len(channels) or len(channels) != bands):
        raise InputError(f"{path}: found EmissionWavelength for {len(given)} of {bands} bands; expected one per band")
    if given:
        try:
            centres = np.array([float(text) for text in given])
        except ValueError as error:
            raise InputError(f"{path}: found an EmissionWavelength that is no number ({error})") from error
        return centres, channels[0].get("EmissionWavelengthUnit", "nm"), significant
    names = [channel.get("Name", "") for channel in channels]
    named = named_centres(names) if len(names) == bands else None
    return (None, "", significant) if named is None else (named[0], named[1], significant)


def _tag(root: str, name: str) -> str:
    """Returns a name in the namespace of the root."""
    return f"{root.partition('}')[0]}}}{name}" if root.startswith("{") else name
