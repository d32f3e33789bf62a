"""Band centres: the usual ones, which lists are plausible, and when two lists mean the same bands."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from m3sr_jax.errors import InputError

# The field's 31 bands in nm: assumed for a file of 31 bands without wavelengths.
BANDS = np.arange(400.0, 701.0, 10.0)
PLAUSIBLE_NM = (100, 20_000)
SAME_BAND_NM = 0.5


def check_wavelengths(wavelengths: Float[np.ndarray, " S"], source: object) -> None:
    """Refuses band centres that do not rise or cannot be in nm.

    Args:
        wavelengths: band centres, at least one.
        source: the file they come from, for the message.

    Raises:
        InputError: they do not rise, one is missing (NaN), or one lies outside `PLAUSIBLE_NM`.
    """
    low, high = PLAUSIBLE_NM
    if not (np.diff(wavelengths) > 0).all() or not low < wavelengths[0] <= wavelengths[-1] < high:
        expected = f"expected wavelengths in nm, rising, between {low} and {high}"
        raise InputError(f"{source}: found bands of {span(wavelengths)}; {expected}")


def same_bands(left: Float[np.ndarray, " S"], right: Float[np.ndarray, " T"]) -> bool:
    """Tells whether two lists name the same bands: equally many, with centres at most `SAME_BAND_NM` apart."""
    return len(left) == len(right) and bool((np.abs(left - right) <= SAME_BAND_NM).all())


def span(wavelengths: Float[np.ndarray, " S"]) -> str:
    """Formats the range of a list of bands, for messages: "400-700 nm"."""
    return f"{wavelengths[0]:g}-{wavelengths[-1]:g} nm"
