"""Cameras: spectral responses, and the RGB photo that a camera takes of a cube."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from m3sr_jax.data.response_table import ResponseTable, read_response_table
from m3sr_jax.errors import InputError
from m3sr_jax.io.named_arrays import read_named_arrays
from m3sr_jax.io.wavelengths import MICROMETRES_BELOW, check_wavelengths, numbers_of_bands, span

BUILT_IN = ("cie1964",)
DEFAULT_CAMERA = "cie1964"
EXPECTED = f"expected {', '.join(BUILT_IN)} or a .csv, .mat or .npz file"
TABLE_SUFFIXES = (".csv", ".txt", ".tsv", ".dat")
WHITE = 255 / 256
MAX_RESPONSE = 1e100  # sums of larger values could overflow
# A response that ends above this share of its peak is truncated: beyond its end it is unknown, not zero.
TRUNCATED = 0.05
NOISE = 0.01  # negative values of at most this share of the peak come from subtracting the dark signal


@dataclass(frozen=True)
class Camera:
    """A linear camera.

    Attributes:
        name: as given to `load_camera`.
        wavelengths: of the measured response, in nm, rising, (K,).
        response: sensitivity of R, G and B at these, (K, 3), each up to a constant factor.
        notes: what was guessed or mended when the file was read.
    """

    name: str
    wavelengths: Float64[np.ndarray, " K"]
    response: Float64[np.ndarray, "K 3"]
    notes: tuple[str, ...] = ()

    def matrix(self, wavelengths: Float[np.ndarray, " S"]) -> Float64[np.ndarray, "S 3"]:
        """Computes the weights of a cube's bands: rgb = cube · matrix.

        The response is interpolated linearly at the bands (zero outside its range) and weighted by the width of the
        bands; each column is scaled to sum to 255/256, so that a cube of ones is white. At 400–700 nm in steps of 10
        the built-in camera equals F / 256 up to rounding, where F are the filters of NTIRE 2020's Clean track (its
        `cie_1964_w_gain`).

        Args:
            wavelengths: band centres in nm, rising, at least two.

        Raises:
            InputError: the cube has one band, or the response lies outside its range or ends inside it above 5 % of
                its peak.
        """
        if len(wavelengths) < 2:
            raise InputError(f"camera {self.name}: found a cube of one band; expected two or more to render a photo of")
        self._check_coverage(wavelengths)
        columns = [np.interp(wavelengths, self.wavelengths, column, left=0.0, right=0.0) for column in self.response.T]
        weights = np.stack(columns, axis=1) * np.gradient(wavelengths)[:, None]
        total = weights.sum(axis=0)
        if not (total > 0).all():
            raise InputError(
                f"camera {self.name}: R, G or B is zero at the cube's bands, {span(wavelengths)}; "
                f"expected a response that covers them, found {span(self.wavelengths)}"
            )
        return weights / total * WHITE

    def _check_coverage(self, wavelengths: Float[np.ndarray, " S"]) -> None:
        peak = self.response.max(axis=0)
        cut = [bool((self.response[end] > TRUNCATED * peak).any()) for end in (0, -1)]
        if (cut[0] and wavelengths[0] < self.wavelengths[0]) or (cut[1] and wavelengths[-1] > self.wavelengths[-1]):
            raise InputError(
                f"camera {self.name}: found a response of {span(self.wavelengths)} that does not fall to zero at its "
                f"ends, but bands of {span(wavelengths)} in the cube; choose a response that covers them"
            )

    def render(
        self, cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"]
    ) -> Float32[np.ndarray, "H W 3"]:
        """Renders the photo of a cube, rgb = clip(cube · matrix(wavelengths), 0, 1).

        Args:
            cube: reflectance or radiance, 1 = white.
            wavelengths: the cube's band centres in nm.
        """
        return np.clip(cube @ self.matrix(wavelengths).astype(np.float32), np.float32(0), np.float32(1))


@dataclass(frozen=True)
class Shot:
    """Takes photos of cubes: linear RGB, cube · matrix, neither clipped nor rounded.

    Attributes:
        matrix: of a camera at the cubes' bands, (S, 3).
    """

    matrix: Float64[np.ndarray, "S 3"]

    def __call__(self, cube: Float32[np.ndarray, "H W S"], rng: np.random.Generator) -> Float32[np.ndarray, "H W 3"]:
        return cube @ self.matrix.astype(np.float32)


def quantise(rgb: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Rounds [0, 1] to the nearest of 256 levels."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def camera_identity(name_or_path: str) -> str:
    """Returns what identifies a camera in hashes: the name of a built-in one, else a hash of the file's bytes.

    Raises:
        InputError: the file cannot be read.
    """
    if name_or_path in BUILT_IN:
        return name_or_path
    try:
        return hashlib.sha256(Path(name_or_path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f'camera "{name_or_path}": {EXPECTED} ({error.strerror})') from error


@functools.lru_cache(maxsize=8)
def load_camera(name_or_path: str) -> Camera:
    """Loads the built-in camera "cie1964", or a camera from a file.

    "cie1964" is the CIE 1964 10° standard observer with X, Y, Z as R, G, B, as in NTIRE 2020's Clean track.
    Files: tables of text (.csv, .txt, .tsv, .dat), see `m3sr_jax.data.response_table`; .mat and .npz with an array
    (K, 3) named `filters` or `response` and K wavelengths named `bands` or `wavelengths`. Wavelengths may fall, and be
    in micrometres. Negative values of at most 1 % of the peak, such as dark noise, become zero.

    Raises:
        InputError: the name is unknown, or the file is missing, unreadable or not a response.
    """
    if name_or_path == "cie1964":
        import colour

        observer = colour.MSDS_CMFS["CIE 1964 10 Degree Standard Observer"]
        return Camera("cie1964", np.asarray(observer.wavelengths, np.float64), np.asarray(observer.values, np.float64))
    path = Path(name_or_path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _checked(path, read_response_table(path))
    if path.suffix.lower() in (".mat", ".npz"):
        return _checked(path, _read_arrays(path))
    raise InputError(f'camera "{name_or_path}": {EXPECTED}')


def print_notes(name_or_path: str) -> None:
    """Prints in one line what was guessed or mended in a camera's file, if anything was."""
    if notes := load_camera(name_or_path).notes:
        print(f"camera {name_or_path}: {'; '.join(notes)}")


def _checked(path: Path, table: ResponseTable) -> Camera:
    """Brings a table in order: nm, rising, gaps filled, small negatives set to zero."""
    wavelengths, notes = np.asarray(table.wavelengths, np.float64).ravel(), list(table.notes)
    response = np.asarray(table.response, np.float64)
    if response.shape == (3, len(wavelengths)) != (3, 3):
        response = response.T
    kept = ~np.isnan(response).all(axis=-1) if response.shape == (len(wavelengths), 3) else slice(None)
    wavelengths, response = wavelengths[kept], response[kept]
    if response.shape != (len(wavelengths), 3) or len(wavelengths) < 2:
        raise InputError(
            f"camera {path}: found {len(wavelengths)} wavelengths and a response of shape {response.shape}; "
            "expected K wavelengths and a response (K, 3), K ≥ 2"
        )
    if 0 < wavelengths.max() < MICROMETRES_BELOW and not numbers_of_bands(wavelengths):
        wavelengths = wavelengths * 1e3
        notes.append("wavelengths taken for micrometres, by their size")
    order = np.argsort(wavelengths, kind="stable")
    wavelengths, response = wavelengths[order], response[order]
    check_wavelengths(wavelengths, f"camera {path}")
    low = np.nanmin(response)
    if -NOISE * np.nanmax(response) <= low < 0:
        notes.append(f"{int((response < 0).sum())} negative values down to {low:.2g} set to zero")
        response = np.maximum(response, 0)
    response = _without_gaps(path, wavelengths, response, notes)
    if not ((response >= 0) & (response < MAX_RESPONSE)).all():
        raise InputError(f"camera {path}: found negative, missing or huge values; expected a response from 0 to 1e100")
    return Camera(path.stem, wavelengths, response, tuple(notes))


def _without_gaps(path: Path, wavelengths: np.ndarray, response: np.ndarray, notes: list[str]) -> np.ndarray:
    """Fills empty cells: between two values by interpolation, beyond the last by zero."""
    response = response.copy()
    for name, values in zip("RGB", response.T, strict=True):
        known = np.flatnonzero(~np.isnan(values))
        if len(known) == len(values):
            continue
        peak = values[known].max(initial=0)
        ends = [known[0], known[-1]] if len(known) else []
        if not ends or any(values[end] > TRUNCATED * peak for end in ends if end not in (0, len(values) - 1)):
            raise InputError(
                f"camera {path}: {name} is empty where it has not fallen to zero; expected a value at each wavelength"
            )
        notes.append(f"{len(values) - len(known)} empty cells of {name} interpolated, or zero beyond its last value")
        values[:] = np.interp(wavelengths, wavelengths[known], values[known], left=0.0, right=0.0)
    return response


def _read_arrays(path: Path) -> ResponseTable:
    arrays = read_named_arrays(path)
    response = next((arrays[key] for key in ("filters", "response") if key in arrays), None)
    wavelengths = next((arrays[key] for key in ("bands", "wavelengths") if key in arrays), None)
    if response is None or wavelengths is None:
        found = ", ".join(sorted(arrays)) or "(none)"
        raise InputError(f"camera {path}: found arrays {found}; expected filters (K, 3) and bands (K)")
    return ResponseTable(wavelengths, response)
