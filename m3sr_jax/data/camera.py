"""Cameras: spectral responses, and the RGB photo a camera takes of a cube."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading
from m3sr_jax.io.named_arrays import read_named_arrays

BUILT_IN = ("cie1964",)
DEFAULT_CAMERA = "cie1964"
EXPECTED = f"expected {', '.join(BUILT_IN)} or a .csv, .mat or .npz file"
WHITE = 255 / 256
LARGEST_RESPONSE = 1e100  # sums of larger ones would overflow
# A response that ends above this share of its peak was cut off: what it is beyond its end is not known to be nothing.
CUT_OFF = 0.05


@dataclass(frozen=True)
class Camera:
    """A linear camera.

    Attributes:
        name: as given to `load_camera`.
        wavelengths: where the response was measured, in nm, rising, (K,).
        response: relative sensitivity of R, G and B there, (K, 3); only its shape counts.
    """

    name: str
    wavelengths: Float64[np.ndarray, " K"]
    response: Float64[np.ndarray, "K 3"]

    def matrix(self, wavelengths: Float[np.ndarray, " S"]) -> Float64[np.ndarray, "S 3"]:
        """Weights of the bands of a cube: rgb = cube · matrix.

        The response is read off at the bands by linear interpolation (nothing outside its range), weighted by the
        width of the bands, and each column scaled to sum to 255/256, so that a cube of ones turns out white. At
        400–700 nm in steps of 10 the built-in camera is F / 256 with F the filters of NTIRE 2020's Clean track (its
        `cie_1964_w_gain`), to rounding.

        Args:
            wavelengths: band centres in nm, rising, at least two.

        Raises:
            InputError: the response misses the cube's range, or ends inside it while still above 5 % of its peak.
        """
        self._check_reach(wavelengths)
        columns = [np.interp(wavelengths, self.wavelengths, column, left=0.0, right=0.0) for column in self.response.T]
        weights = np.stack(columns, axis=1) * np.gradient(wavelengths)[:, None]
        total = weights.sum(axis=0)
        if not (total > 0).all():
            raise InputError(
                f"camera {self.name}: R, G or B sees nothing at {_reach(wavelengths)}; "
                f"its response covers {_reach(self.wavelengths)}"
            )
        return weights / total * WHITE

    def _check_reach(self, wavelengths: Float[np.ndarray, " S"]) -> None:
        peak = self.response.max(axis=0)
        cut = [bool((self.response[end] > CUT_OFF * peak).any()) for end in (0, -1)]
        if (cut[0] and wavelengths[0] < self.wavelengths[0]) or (cut[1] and wavelengths[-1] > self.wavelengths[-1]):
            raise InputError(
                f"camera {self.name}: its response covers {_reach(self.wavelengths)} and does not fade out there, "
                f"but the cube's bands {_reach(wavelengths)}; give a response that covers the cube"
            )

    def render(
        self, cube: Float32[np.ndarray, "H W S"], wavelengths: Float[np.ndarray, " S"]
    ) -> Float32[np.ndarray, "H W 3"]:
        """The photo of a cube, rgb = clip(cube · matrix(wavelengths), 0, 1).

        Args:
            cube: reflectance or radiance, 1 = white.
            wavelengths: its band centres in nm.
        """
        return np.clip(cube @ self.matrix(wavelengths).astype(np.float32), np.float32(0), np.float32(1))


def _reach(wavelengths: Float[np.ndarray, " S"]) -> str:
    return f"{wavelengths[0]:g}-{wavelengths[-1]:g} nm"


def quantise(rgb: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """[0, 1] to the nearest of 256 levels."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def camera_identity(name_or_path: str) -> str:
    """What tells cameras apart in hashes: the name of a built-in one, else a hash of the file's bytes.

    Raises:
        InputError: a file that cannot be read.
    """
    if name_or_path in BUILT_IN:
        return name_or_path
    try:
        return hashlib.sha256(Path(name_or_path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f'camera "{name_or_path}": {EXPECTED} ({error.strerror})') from error


@functools.lru_cache(maxsize=8)
def load_camera(name_or_path: str) -> Camera:
    """The built-in camera "cie1964", or one read from a file.

    "cie1964" is the CIE 1964 10° standard observer, X, Y, Z taken as R, G, B, as NTIRE 2020's Clean track uses it.
    Files: .csv, rows `wavelength, R, G, B`, lines that start with `#` and one line of column names are skipped;
    .mat and .npz, an array (K, 3) called `filters` or `response` and K wavelengths called `bands` or `wavelengths`.

    Raises:
        InputError: an unknown name, or a file that is missing, unreadable or not a response.
    """
    if name_or_path == "cie1964":
        import colour

        observer = colour.MSDS_CMFS["CIE 1964 10 Degree Standard Observer"]
        return Camera("cie1964", np.asarray(observer.wavelengths, np.float64), np.asarray(observer.values, np.float64))
    path = Path(name_or_path)
    reader = {".csv": _read_csv, ".mat": _read_arrays, ".npz": _read_arrays}.get(path.suffix.lower())
    if reader is None:
        raise InputError(f'camera "{name_or_path}": {EXPECTED}')
    return _checked(path, *reader(path))


def _checked(path: Path, wavelengths: np.ndarray, response: np.ndarray) -> Camera:
    wavelengths = np.asarray(wavelengths, np.float64).ravel()
    response = np.asarray(response, np.float64)
    if response.shape == (3, len(wavelengths)) != (3, 3):
        response = response.T
    if response.shape != (len(wavelengths), 3) or len(wavelengths) < 2:
        raise InputError(
            f"camera {path}: found {len(wavelengths)} wavelengths and a response of shape {response.shape}; "
            "expected (K, 3), K ≥ 2"
        )
    if not ((response >= 0) & (response < LARGEST_RESPONSE)).all():
        raise InputError(f"camera {path}: the response holds negative or missing values, or some above 1e100")
    if not (np.diff(wavelengths) > 0).all() or not 100 < wavelengths[0] <= wavelengths[-1] < 20_000:
        raise InputError(f"camera {path}: wavelengths must rise and be in nm; found {_reach(wavelengths)}")
    return Camera(path.stem, wavelengths, response)


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with reading(path, "rows `wavelength, R, G, B` of numbers"):
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if lines and not lines[0].lstrip()[0].isdigit():
            lines = lines[1:]
        table = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    if table.ndim != 2 or table.shape[1] != 4:
        raise InputError(f"camera {path}: found a table of shape {table.shape}; expected columns wavelength, R, G, B")
    return table[:, 0], table[:, 1:]


def _read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_named_arrays(path)
    response = next((arrays[key] for key in ("filters", "response") if key in arrays), None)
    wavelengths = next((arrays[key] for key in ("bands", "wavelengths") if key in arrays), None)
    if response is None or wavelengths is None:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise InputError(f"camera {path}: found {found}; expected `filters` (K, 3) and `bands` (K)")
    return wavelengths, response
