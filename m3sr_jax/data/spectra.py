"""Measured reflectances and illuminants from the tables of colour-science (BSD-3), at 31 bands of 400-700 nm.

`colour` takes over a second to import, so functions import it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from jaxtyping import Float64

from m3sr_jax.io.wavelengths import BANDS

# Reflectances closer than this in direction count as one pigment, measured twice or applied more thinly.
SAME_PIGMENT_DEGREES = 2.0
VALID_SHARE = 0.2

# Broad-band lamps: the colour of a lamp with spikes (FL11, for example) matches lamps of very different spectra, and a
# photo cannot show which of them lit the scene.
_LAMPS = {"fluorescent": ("FL7", "FL8", "FL9"), "led": ("LED-B3", "LED-V1", "LED-V2")}
# A cycle, not a random draw: twelve held-out scenes must not all be daylight by chance.
FAMILIES = ("daylight", "tungsten", "daylight", "led", "daylight", "tungsten", "daylight", "fluorescent")


@functools.cache
def reflectances() -> Float64[np.ndarray, "N 31"]:
    """Returns the measured reflectances in colour-science that cover 400-700 nm, one per pigment: about 340 of 450.

    ColorChecker (three measurements), PMC skin and other patches, the CIE 1995 and 2024 colour-rendering samples, the
    NIST CQS samples, the 99 CIE 2017 colour-fidelity samples and RAWtoACES' 190 patches. Spectra above 1 (fluorescent)
    are left out; of spectra less than 2° apart, the first is kept.

    Returns:
        reflectances in [0, 1] at `BANDS`, in a fixed order.
    """
    measured = np.stack([np.interp(BANDS, spectrum.wavelengths, spectrum.values) for spectrum in _tables()])
    measured = measured[(measured.min(axis=1) > 0) & (measured.max(axis=1) <= 1)]
    directions = measured / np.linalg.norm(measured, axis=1, keepdims=True)
    near = directions @ directions.T > np.cos(np.radians(SAME_PIGMENT_DEGREES))
    kept: list[int] = []
    for i in range(len(measured)):
        if not near[i, kept].any():
            kept.append(i)
    return measured[kept]


def _tables() -> list:
    import colour
    from colour.characterisation import read_training_data_rawtoaces_v1
    from colour.quality.cfi2017 import load_TCS_CIE2017
    from colour.quality.datasets import SDS_TCS, SDS_VS

    checkers = ("BabelColor Average", "ColorChecker N Ohta", "ISO 17321-1", "PMC")
    tables = [colour.SDS_COLOURCHECKERS[name] for name in checkers]
    spectra = [spectrum for table in (*tables, *SDS_TCS.values(), *SDS_VS.values()) for spectrum in table.values()]
    samples = load_TCS_CIE2017(colour.SpectralShape(380, 780, 5)), read_training_data_rawtoaces_v1()
    spectra += [spectrum for several in samples for spectrum in several.to_sds()]
    return [spectrum for spectrum in spectra if spectrum.shape.start <= BANDS[0] and spectrum.shape.end >= BANDS[-1]]


@functools.cache
def white_paint() -> Float64[np.ndarray, " 31"]:
    """Returns the reflectance of a ColorChecker's white, which has the edge of titanium dioxide: 0.42 at 400 nm.

    Source: BabelColor's average of 30 charts, in colour-science.
    """
    import colour

    white = colour.SDS_COLOURCHECKERS["BabelColor Average"]["white 9.5 (.05 D)"]
    return np.interp(BANDS, white.wavelengths, white.values)


def split_reflectances(seed: int) -> tuple[Float64[np.ndarray, "T 31"], Float64[np.ndarray, "V 31"]]:
    """Splits `reflectances()` at random into training and validation (a fifth)."""
    spectra = reflectances()
    order = np.random.default_rng(seed).permutation(len(spectra))
    held_out = round(VALID_SHARE * len(spectra))
    return spectra[order[held_out:]], spectra[order[:held_out]]


def illuminant(family: str, rng: np.random.Generator) -> tuple[str, Float64[np.ndarray, " 31"]]:
    """Draws a light of one family.

    daylight: CIE D series, 5000-7500 K; tungsten: a black body of 2600-3100 K (CIE A is 2856 K);
    fluorescent: CIE FL7, FL8, FL9 (4150-6500 K); led: CIE LED-B3, V1, V2 (2700-4100 K).

    Returns:
        name and relative spectral power at `BANDS`, with largest value 1, through a triangular band-pass 10 nm wide, as
        a spectrometer measures it.
    """
    if family == "tungsten":
        kelvin = rng.uniform(2600, 3100)
        name, power = f"{kelvin:.0f}K", black_body(kelvin)
    elif family == "daylight":
        kelvin = rng.uniform(5000, 7500)
        name, power = f"D{kelvin / 100:.0f}", daylight(kelvin)
    else:
        name = str(rng.choice(_LAMPS[family]))
        power = lamp(name)
    return name, power / power.max()


def black_body(kelvin: float) -> Float64[np.ndarray, " 31"]:
    """Computes a black body's power at `BANDS` by Planck's law, 1 / (λ⁵ (exp(c₂ / λT) − 1)) with c₂ = 1.4388 cm K."""
    return 1 / (BANDS**5 * np.expm1(1.4388e7 / (BANDS * kelvin)))


def daylight(kelvin: float) -> Float64[np.ndarray, " 31"]:
    """Returns the power of the CIE D series at a colour temperature of 4,000 to 25,000 K."""
    import colour

    return through_band_pass(colour.sd_CIE_illuminant_D_series(colour.temperature.CCT_to_xy_CIE_D(kelvin)))


def lamp(name: str) -> Float64[np.ndarray, " 31"]:
    """Returns the power of a tabulated illuminant: "D65", "A", "FL11", "LED-B3" and others."""
    import colour

    return through_band_pass(colour.SDS_ILLUMINANTS[name])


def through_band_pass(spectrum: Any) -> Float64[np.ndarray, " 31"]:
    """Returns a spectrum of colour-science at `BANDS`, through a triangle 10 nm wide at half its height."""
    below, at, above = (np.interp(BANDS + shift, spectrum.wavelengths, spectrum.values) for shift in (-5.0, 0.0, 5.0))
    return (below + 2 * at + above) / 4
