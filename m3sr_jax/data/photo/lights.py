"""Lights of simulated photos: CIE daylight, black bodies, CIE fluorescent lamps and CIE LEDs, at 400-700 nm."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float64

from m3sr_jax.data import spectra

# Family → share of the photos. Most photos are taken by daylight; lamps have the rest.
SHARES = {"daylight": 0.45, "black body": 0.2, "led": 0.2, "fluorescent": 0.15}
DAYLIGHT_KELVIN = (4000.0, 10_000.0)
BLACK_BODY_KELVIN = (2500.0, 4500.0)
LEDS = ("LED-B1", "LED-B2", "LED-B3", "LED-B4", "LED-B5", "LED-BH1", "LED-RGB1", "LED-V1", "LED-V2")
FLUORESCENT = (*(f"FL{i}" for i in range(1, 13)), *(f"FL3.{i}" for i in range(1, 16)))


def draw_light(rng: np.random.Generator) -> tuple[str, Float64[np.ndarray, " 31"]]:
    """Draws a light.

    Returns:
        its name and its relative power at `BANDS`, with mean 1.
    """
    family = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if family == "daylight":
        kelvin = rng.uniform(*DAYLIGHT_KELVIN)
        name, power = f"D{kelvin / 100:.0f}", spectra.daylight(kelvin)
    elif family == "black body":
        kelvin = rng.uniform(*BLACK_BODY_KELVIN)
        name, power = f"{kelvin:.0f}K", spectra.black_body(kelvin)
    else:
        name = str(rng.choice(LEDS if family == "led" else FLUORESCENT))
        return name, lamp(name)
    return name, power / power.mean()


@functools.lru_cache(maxsize=64)
def lamp(name: str) -> Float64[np.ndarray, " 31"]:
    """Returns a tabulated illuminant ("D65", "A", "FL11", "LED-B3", …) through a 10 nm band-pass, with mean 1."""
    power = spectra.lamp(name)
    return power / power.mean()
