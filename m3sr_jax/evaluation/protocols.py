"""Evaluation protocols: named presets of the terms of a score, which every report states.

The crop alone can change PSNR by decibels, so a score is never shown without its protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from m3sr_jax.errors import InputError
from m3sr_jax.evaluation import metrics

METRICS = ("mrae", "rmse", "psnr", "sam", "sam_bright", "mssim")


@dataclass(frozen=True)
class Protocol:
    """The terms of an evaluation.

    Attributes:
        name: preset name, printed with every score.
        crop: pixels cut from each of the four sides before scoring.
        clamp: whether the prediction is clipped to [0, 1] before every metric (PSNR always clips both).
        mrae_floor: lower limit of the truth in MRAE's denominator.
        psnr_mode: "cube" for one MSE over all bands, "band" for the mean of the bands' PSNR.
        ssim_window: width of SSIM's Gaussian window in pixels.
        ssim_sigma: its standard deviation in pixels.
    """

    name: str
    crop: int = 0
    clamp: bool = False
    mrae_floor: float = 0.0
    psnr_mode: Literal["cube", "band"] = "cube"
    ssim_window: int = 11
    ssim_sigma: float = 1.5

    def terms(self) -> dict[str, str | int | float | bool]:
        """Returns the terms and the name in JSON types, for a report."""
        return asdict(self)

    def describe(self) -> str:
        """Describes the terms in one line, for a table's footer."""
        region = f"centre crop, {self.crop} pixels off every side" if self.crop else "full frame"
        prediction = "prediction clipped to [0, 1]" if self.clamp else "prediction unclamped except for PSNR"
        floor = f"MRAE over max(truth, {self.mrae_floor:g})" if self.mrae_floor else "MRAE without a floor"
        psnr = "PSNR of the whole cube" if self.psnr_mode == "cube" else "mean of per-band PSNR"
        window = f"SSIM with an {self.ssim_window}×{self.ssim_window} Gaussian window, σ {self.ssim_sigma:g}"
        return (
            f"{self.name}: {region}; {prediction}; {floor}; {psnr}, peak 1; SAM in degrees; {window}; mean over images"
        )


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("ntire2022", crop=128),
        Protocol("ntire2020"),
        Protocol("cave", mrae_floor=1e-3),
        Protocol("synthetic", mrae_floor=1e-3),
        Protocol("photo", mrae_floor=1e-3),
        Protocol("full_frame", mrae_floor=1e-3),
    )
}


# Data sets whose protocol has another name.
_PROTOCOL_NAMES = {"ntire2020_clean": "ntire2020", "ntire2020_real": "ntire2020", "folder": "full_frame"}


def get_protocol(name: str) -> Protocol:
    """Returns the preset of a name, or the preset of the data set of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    name = name if name in PROTOCOLS else _PROTOCOL_NAMES.get(name, name)
    if name not in PROTOCOLS:
        raise InputError(f'protocol "{name}" is unknown; expected one of {", ".join(PROTOCOLS)}')
    return PROTOCOLS[name]


def evaluate_pair(
    protocol: Protocol,
    prediction: Float[Array, "H W S"] | Float[np.ndarray, "H W S"],
    target: Float[Array, "H W S"] | Float[np.ndarray, "H W S"],
) -> dict[str, float]:
    """Scores one predicted cube against the truth under a protocol.

    Args:
        protocol: the terms.
        prediction: cube, (H, W, S).
        target: true cube, (H, W, S), in [0, 1].

    Returns:
        "mrae", "rmse", "psnr" (dB), "sam" and "sam_bright" (degrees) and "mssim".

    Raises:
        InputError: the crop leaves less than SSIM's window.
        ValueError: the shapes differ.

    Source: the presets are the benchmarks' own rules (NTIRE 2020 and 2022), which `Protocol.describe` states.
    """
    x, y = _region(protocol, prediction, target)
    x, y = jnp.asarray(x[None]), jnp.asarray(y[None])
    x = jnp.clip(x, 0, 1) if protocol.clamp else x
    scores = {
        "mrae": metrics.mrae(x, y, mrae_floor=protocol.mrae_floor),
        "rmse": metrics.rmse(x, y),
        "psnr": metrics.psnr(x, y, mode=protocol.psnr_mode),
        "sam": metrics.sam(x, y),
        "sam_bright": metrics.sam_bright(x, y),
        "mssim": metrics.mssim(x, y, window=protocol.ssim_window, sigma=protocol.ssim_sigma),
    }
    return {name: float(scores[name][0]) for name in METRICS}


def band_rmse(
    protocol: Protocol, prediction: Float[np.ndarray, "H W S"], target: Float[np.ndarray, "H W S"]
) -> Float[np.ndarray, " S"]:
    """Computes the RMSE of each band of one image over the protocol's region, the root of the mean over its pixels.

    Args:
        protocol: the terms.
        prediction: cube, (H, W, S).
        target: true cube, (H, W, S).

    Returns:
        (S,) errors in the unit of the cubes.

    Raises:
        InputError: see `evaluate_pair`.
    """
    x, y = _region(protocol, prediction, target)
    x = np.clip(x, 0, 1) if protocol.clamp else x
    # Row by row: one float32 sum of half a million squares would lose digits.
    return np.sqrt(np.square(x - y).mean(axis=1).mean(axis=0))


def _region(protocol: Protocol, prediction: Any, target: Any) -> tuple[Any, Any]:
    """Crops both cubes to the region that is scored."""
    height, width, crop = target.shape[0], target.shape[1], protocol.crop
    if min(height, width) - 2 * crop < protocol.ssim_window:
        raise InputError(
            f"image of {height}×{width} pixels: protocol {protocol.name} cuts {crop} off every side and needs at least "
            f"{protocol.ssim_window} to remain; use a larger image or another protocol"
        )
    region = slice(crop, height - crop), slice(crop, width - crop)
    return prediction[region], target[region]
