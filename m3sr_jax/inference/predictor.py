"""A trained model with all that its use takes: `m3sr_jax.load(checkpoint).predict(rgb)`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float32, Float64, Num

from m3sr_jax.checkpoint import Which, load_model
from m3sr_jax.errors import InputError
from m3sr_jax.inference.ensemble import self_ensemble
from m3sr_jax.inference.predict import normalise_rgb, predict
from m3sr_jax.inference.tiling import tiled_rows
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models.m3sr import MULTIPLE

# Images up to this many pixels are predicted whole: the benchmarks' 482×512 is among them.
WHOLE_PIXELS = 512 * 512
# A CPU plans 1.9 GiB for 482×512 pixels (benchmarks/bench_model.py); the overlap is from benchmarks/bench_tiles.py.
TILE = 448
OVERLAP = 32
SMALLEST_TILE = 64

Tick = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network, its parameters and its card.

    Attributes:
        model: the Linen module.
        params: its parameters, on the device.
        card: bands, RGB normalisation, provenance.
    """

    model: nn.Module
    params: Any
    card: ModelCard

    @property
    def wavelengths(self) -> Float64[np.ndarray, " S"]:
        """Band centres in nm, in the order of the cube's last axis."""
        return np.array(self.card.wavelengths, np.float64)

    def fingerprint(self) -> str:
        """Returns twelve letters that another model's card or parameters would change."""
        digest = hashlib.sha256(self.card.to_json().encode())
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:12]

    def predict(
        self,
        rgb: Num[np.ndarray, "H W 3"],
        *,
        tile: int | None = None,
        overlap: int = OVERLAP,
        ensemble: bool = False,
        tick: Tick = lambda done, total: None,
    ) -> Float32[np.ndarray, "H W S"]:
        """Reconstructs the cube of a photo.

        Args:
            rgb: (H, W, 3); floating-point in [0, 1], or codes of 8 or 16 bits. It is normalised as the model asks.
            tile: None takes images of up to 512×512 pixels whole and larger ones in tiles of 448×448; 0 takes any
                image whole; another number, a multiple of 8 from 64, is the size of the tiles. Tiles are an
                approximation: see "What tiles change" in the README.
            overlap: least overlap of tiles in pixels, a multiple of 8.
            ensemble: average over the eight flips and rotations; eight times the work.
            tick: called with (tiles done, tiles in all).

        Returns:
            The cube, unclamped; its bands are at `wavelengths`.

        Raises:
            InputError: not such an image, too small a one, or one that does not fit in memory.
        """
        rows = self.predict_rows(rgb, tile=tile, overlap=overlap, ensemble=ensemble, tick=tick)
        cube = np.empty((*rgb.shape[:2], len(self.card.wavelengths)), np.float32)
        done = 0
        for part in rows:
            cube[done : done + len(part)] = part
            done += len(part)
        return cube

    def predict_rows(
        self,
        rgb: Num[np.ndarray, "H W 3"],
        *,
        tile: int | None = None,
        overlap: int = OVERLAP,
        ensemble: bool = False,
        tick: Tick = lambda done, total: None,
    ) -> Iterator[Float32[np.ndarray, "h W S"]]:
        """Reconstructs a cube from top to bottom; with tiles it is never in memory as a whole.

        Args and Raises as `predict`; the image is checked at once.

        Returns:
            An iterator over the cube's next rows; each is valid until the next is asked for.
        """
        check_tiles(tile, overlap)
        normalised = normalise_rgb(_unit_range(rgb), self.card.rgb_normalization)
        if tile is None:
            tile = TILE if rgb.shape[0] * rgb.shape[1] > WHOLE_PIXELS else 0
        run = (lambda image: self_ensemble(self._run, image)) if ensemble else self._run
        return tiled_rows(run, normalised, tile or _up(max(rgb.shape)), overlap, tick)

    def _run(self, rgb: Float32[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W S"]:
        try:
            return predict(self.model, self.params, rgb)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            size = f"{rgb.shape[0]}×{rgb.shape[1]}"
            raise InputError(f"{size} pixels at once do not fit in memory; give a smaller tile") from error


def load(checkpoint: str | os.PathLike[str], which: Which = "best") -> Predictor:
    """Reads a trained model, ready to predict.

    Args:
        checkpoint: a training workdir, or what `m3sr convert` wrote.
        which: of a workdir, the checkpoint with the best PSNR or the latest.

    Raises:
        InputError: as `load_model`.
    """
    model, params, card = load_model(checkpoint, which)
    return Predictor(model, jax.device_put(params), card)


def _up(length: int) -> int:
    return length + -length % MULTIPLE


def check_tiles(tile: int | None, overlap: int) -> None:
    """Raises InputError unless `Predictor.predict` takes these; see there."""
    most = (tile or TILE) // 2
    if tile is not None and (tile % MULTIPLE or 0 < tile < SMALLEST_TILE or tile < 0):
        raise InputError(
            f"tile {tile}: expected 0 for the whole image, or a multiple of {MULTIPLE} from {SMALLEST_TILE}"
        )
    if overlap % MULTIPLE or not 0 <= overlap <= most:
        raise InputError(f"overlap {overlap}: expected a multiple of {MULTIPLE} up to half a tile, {most}")


def _unit_range(rgb: Num[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 8:
        raise InputError(f"photo of shape {rgb.shape}: expected (height, width, 3), both sides at least 8 pixels")
    if rgb.dtype in (np.uint8, np.uint16):
        return np.divide(rgb, np.float32(np.iinfo(rgb.dtype).max), dtype=np.float32)
    low, high = float(rgb.min()), float(rgb.max())
    if rgb.dtype.kind != "f" or not -1e-3 <= low <= high <= 1 + 1e-3:
        found = f"{rgb.dtype} values from {low:g} to {high:g}"
        raise InputError(f"photo: found {found}; expected floating-point RGB in [0, 1], or 8- or 16-bit codes")
    return rgb.astype(np.float32, copy=False)
