"""What follows the network: exact colours, the check against the photo, a light, and intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from m3sr_jax.data.colorimetry import srgb_matrix
from m3sr_jax.data.photo.lights import lamp
from m3sr_jax.data.response_table import read_numbers
from m3sr_jax.errors import InputError
from m3sr_jax.inference.trust import CLIPPED
from m3sr_jax.io.encoding import converted
from m3sr_jax.io.files import reading
from m3sr_jax.io.photos.photo import Photo, unit_range
from m3sr_jax.io.photos.spaces import srgb_encode
from m3sr_jax.io.wavelengths import BANDS, same_bands, span
from m3sr_jax.model_card import ModelCard
from m3sr_jax.uncertainty import Interval


class Finish:
    """Finishes a cube from top to bottom, and compares it with its photo on the way.

    The check needs no truth: the reflectances under D65, seen by the CIE 1931 observer, are what the photo shows.
    `deviation` is the mean difference of sRGB values from the photo's over pixels that are not clipped, in 1/255.

    Args:
        card: of the model; it has to predict reflectance of a photo.
        photo: as read.
        exact_colour: add to each spectrum the smooth one that makes up what it lacks in colour. Cubes then reproduce
            the photo, at the price of values that may leave [0, 1].
        light: power at the bands to multiply by, or None for reflectance.
        interval: of the model, for `half_widths`.

    Source: J. Cohen and W. Kappauf, "Metameric color stimuli, fundamental metamers, and Wyszecki's metameric blacks",
    1982: r + A (AᵀA)⁻¹ (rgb − Aᵀr) has the colour rgb and the metameric black of r.
    """

    def __init__(
        self,
        card: ModelCard,
        photo: Photo,
        *,
        exact_colour: bool,
        light: Float64[np.ndarray, " S"] | None,
        interval: Interval | None = None,
    ) -> None:
        self._photo, self._exact, self._interval = photo, exact_colour, interval
        self._light = None if light is None else light.astype(np.float32)
        self._matrix = srgb_matrix(np.asarray(card.wavelengths)).astype(np.float32)
        self._inverse = np.linalg.pinv(self._matrix.astype(np.float64)).astype(np.float32)
        self._rows, self._total, self._count = slice(0, 0), 0.0, 0
        self._width, self._widths = 0.0, 0

    def __call__(self, rows: Float32[np.ndarray, "h W S"]) -> Float32[np.ndarray, "h W S"]:
        """Returns the finished next rows."""
        self._rows = slice(self._rows.stop, self._rows.stop + len(rows))
        values = unit_range(self._photo.codes[self._rows])
        shown = rows @ self._matrix
        if self._exact:
            rows = rows + (converted(values, self._photo.encoding, "linear") - shown) @ self._inverse
            shown = rows @ self._matrix
        seen = (values < CLIPPED).all(axis=-1)
        photo = converted(values, self._photo.encoding, "srgb")
        self._total += float(np.abs(srgb_encode(np.clip(shown[seen], 0, 1)) - photo[seen]).sum(dtype=np.float64))
        self._count += 3 * int(seen.sum())
        return rows if self._light is None else rows * self._light

    def half_widths(self) -> Float32[np.ndarray, "h W S"] | None:
        """Returns the half-widths of the intervals of the rows finished last; None without intervals."""
        if self._interval is None:
            return None
        light = converted(unit_range(self._photo.codes[self._rows]), self._photo.encoding, "linear")
        widths = self._interval.half_widths(light, exact_colour=self._exact)
        if self._light is not None:
            widths *= self._light
        self._width += float(widths.sum(dtype=np.float64))
        self._widths += widths.size
        return widths

    @property
    def deviation(self) -> float | None:
        """Mean deviation so far, in 1/255; None if every pixel is clipped."""
        return 255 * self._total / self._count if self._count else None

    def line(self) -> str:
        """Returns the lines that `m3sr predict` prints: the check against the photo and, if stored, the intervals."""
        line = "rendered back: every pixel of the photo is clipped"
        if self.deviation is not None:
            line = f"rendered back, the cube differs from the photo by {self.deviation:.2f}/255 on average"
            line += " (D65, CIE 1931)"
        if self._interval is None or not self._widths:
            return line
        width = self._width / self._widths
        return line + f"\n  {self._interval.coverage:.0%} interval: ±{width:.3f} on average, stored beside each value"


def describes_photos(card: ModelCard) -> bool:
    """Whether a model predicts the reflectance of photos, which can be shown under a light."""
    return card.encoding != "codes" and card.quantity == "reflectance"


def read_light(name_or_file: str, wavelengths: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
    """Returns a light's power at the bands, with largest value 1.

    Args:
        name_or_file: a CIE illuminant, such as D65, A, FL11 or LED-B3; or a .csv file of wavelength in nm and power.
        wavelengths: of the cube.

    Raises:
        InputError: there is no such illuminant or file, or it does not cover the bands.
    """
    if not name_or_file.lower().endswith(".csv"):
        import colour

        if name_or_file not in colour.SDS_ILLUMINANTS:
            expected = "a CIE illuminant such as D65, A, FL11 or LED-B3, or a .csv file of wavelength and power"
            raise InputError(f"light {name_or_file}: no such light; expected {expected}")
        if not same_bands(wavelengths, BANDS):
            raise InputError(f"light {name_or_file}: for bands other than 400-700 nm in steps of 10, pass a .csv file")
        power = lamp(name_or_file)
        return power / power.max()
    path = Path(name_or_file)
    with reading(path, "rows `wavelength, power` of numbers"):
        table = read_numbers(path)
    nm, power = table.T if table.shape[1:] == (2,) else (np.zeros(1), np.zeros(1))
    if not (np.isfinite(table).all() and (np.diff(nm) > 0).all() and power.min() >= 0 and power.max() > 0):
        raise InputError(f"light {path}: expected two columns, rising wavelengths in nm and powers of at least 0")
    if nm[0] > wavelengths[0] or nm[-1] < wavelengths[-1]:
        raise InputError(f"light {path}: covers {span(nm)}, expected the cube's {span(wavelengths)}")
    found = np.interp(wavelengths, nm, power)
    if not found.max() > 0:
        raise InputError(f"light {path}: has no power over the cube's {span(wavelengths)}")
    return found / found.max()
