"""The Python API: `m3sr_jax.load(checkpoint).predict(rgb)`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float, Float32, Float64, Num

from m3sr_jax.checkpoint import Which, load_interval, load_model
from m3sr_jax.errors import InputError, short_of_memory
from m3sr_jax.inference.ensemble import self_ensemble
from m3sr_jax.inference.tiling import tiled_rows
from m3sr_jax.io.encoding import converted
from m3sr_jax.io.normalization import normalise_rgb
from m3sr_jax.io.photos.photo import Encoding, Photo
from m3sr_jax.io.wavelengths import span
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models.base import bare_network
from m3sr_jax.models.m3sr import MULTIPLE
from m3sr_jax.networks import network_of
from m3sr_jax.uncertainty import Interval

# Images of up to this many pixels are predicted whole, the benchmarks' 482×512 among them.
WHOLE_PIXELS = 512 * 512
# A CPU needs 0.5 GiB for 482×512 pixels (benchmarks/bench_model.py); benchmarks/bench_tiles.py chose the overlap.
TILE = 448
OVERLAP = 32
MIN_TILE = 64
# The models of the package, see pretrained/MODEL_CARD.md.
PRETRAINED = Path(__file__).parents[1] / "pretrained"
NETWORK = PRETRAINED / "network"
REGRESSION = PRETRAINED / "regression"

Tick = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, repr=False)
class Predictor:
    """A network, its parameters and its card.

    Attributes:
        model: the Linen module.
        params: its parameters, on the device.
        card: the model card: bands, RGB normalisation, provenance.
        uncertainty: the half-widths of its intervals; None if it has none.
    """

    model: nn.Module
    params: Any
    card: ModelCard
    uncertainty: Interval | None = None

    def __repr__(self) -> str:
        network, count = self.card.model.name, sum(leaf.size for leaf in jax.tree.leaves(self.params))
        bands, holds = f"{len(self.wavelengths)} bands of {span(self.wavelengths)}", self.card.quantity or "unstated"
        return f"Predictor({network}, {count:,} parameters, {bands}, encoding {self.card.encoding}, quantity {holds})"

    @property
    def wavelengths(self) -> Float64[np.ndarray, " S"]:
        """Band centres in nm, in the order of the cube's last axis."""
        return np.array(self.card.wavelengths, np.float64)

    def fingerprint(self) -> str:
        """Returns twelve hexadecimal digits that identify the card and the parameters."""
        digest = hashlib.sha256(self.card.to_json().encode())
        for leaf in [*jax.tree.leaves(self.params), *(self.uncertainty.arrays().values() if self.uncertainty else ())]:
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:12]

    def predict(
        self,
        rgb: Num[np.ndarray, "H W 3"] | Photo,
        *,
        encoding: Encoding = "srgb",
        tile: int | None = None,
        overlap: int = OVERLAP,
        ensemble: bool = False,
        tick: Tick = lambda done, total: None,
    ) -> Float32[np.ndarray, "H W S"]:
        """Reconstructs the cube of a photo.

        Args:
            rgb: a photo of `m3sr_jax.io.read_photo`, or (H, W, 3), floating-point in [0, 1] or 8- or 16-bit codes. It
                is normalised as the card says.
            encoding: of an array: "srgb" as in most files, or "linear". It is converted to what the card states; models
                of benchmarks take any array as it is. A photo knows its own.
            tile: None predicts images of up to 512×512 pixels whole and larger ones in tiles of 448×448; 0 predicts
                any image whole; any other value is the tile size, a multiple of 8 of at least 64. Tiling is an
                approximation: see docs/tiling.md.
            overlap: minimum overlap of neighbouring tiles in pixels, a multiple of 8. A network with a `margin` takes
                at least twice that, if half a tile is as much, and then tiling is exact.
            ensemble: average over the eight flips and rotations, which takes eight times as long.
            tick: called with (tiles done, tiles in total) after each tile.

        Returns:
            The cube, not clipped; `wavelengths` holds its band centres.

        Raises:
            InputError: the array is no such image, is smaller than 8×8 pixels, or does not fit in memory; or an
                option's value is unknown.
        """
        rgb, encoding = _pixels(rgb, encoding)
        rows = self.predict_rows(rgb, encoding=encoding, tile=tile, overlap=overlap, ensemble=ensemble, tick=tick)
        cube = np.empty((*rgb.shape[:2], len(self.card.wavelengths)), np.float32)
        done = 0
        for part in rows:
            cube[done : done + len(part)] = part
            done += len(part)
        return cube

    def predict_rows(
        self,
        rgb: Num[np.ndarray, "H W 3"] | Photo,
        *,
        encoding: Encoding = "srgb",
        tile: int | None = None,
        overlap: int = OVERLAP,
        ensemble: bool = False,
        tick: Tick = lambda done, total: None,
    ) -> Iterator[Float32[np.ndarray, "h W S"]]:
        """Reconstructs a cube from top to bottom; in tiles, the whole cube is never in memory.

        Takes and raises what `predict` does. The image is checked before the first row is requested.

        Returns:
            An iterator over blocks of rows; each block is valid until the next is requested.
        """
        check_tiles(tile, overlap)
        rgb, encoding = _pixels(rgb, encoding)
        normalise = _normaliser(rgb, self.card, encoding)
        if tile is None and rgb.shape[0] * rgb.shape[1] > WHOLE_PIXELS:
            tile = TILE
        side = tile or max(rgb.shape) + MULTIPLE  # a whole photo is one tile, at least as long as the photo is padded
        overlap, margin = self._exact(side, overlap)
        network = network_of(bare_network(self.model))
        grid = MULTIPLE if network is None else network.grid
        mean_square = self._mean_square(rgb, normalise)

        def whole(image: np.ndarray) -> np.ndarray:
            return run_network(self.model, self.params, image, mean_square)

        run = (lambda image: self_ensemble(whole, image)) if ensemble else whole
        return tiled_rows(lambda part: run(normalise(part)), rgb, side, overlap, tick, grid=grid, margin=margin)

    def interval(
        self,
        rgb: Num[np.ndarray, "H W 3"] | Photo,
        *,
        encoding: Encoding = "srgb",
        exact_colour: bool = False,
    ) -> Float32[np.ndarray, "H W S"]:
        """Returns the half-widths of the intervals around what `predict` returns for a photo: cube ± half-width.

        The card's `uncertainty` states the share of true values that lie inside, on photos like those it lists.

        Args:
            rgb: as in `predict`.
            encoding: as in `predict`.
            exact_colour: whether the cube was made to reproduce the photo, as by `m3sr predict --exact-colour`.

        Raises:
            InputError: the array is no such image, or the model has no intervals.
        """
        if self.uncertainty is None:
            raise InputError("the model has no intervals: its model.json states no uncertainty")
        rgb, encoding = _pixels(rgb, encoding)
        light = _normaliser(rgb, dataclasses.replace(self.card, encoding="linear"), encoding)
        return self.uncertainty.half_widths(light(rgb), exact_colour=exact_colour)

    def _exact(self, tile: int, overlap: int) -> tuple[int, int]:
        """Returns overlap and margin at which tiles are exact, if the network and the size of the tiles allow it."""
        margin = getattr(bare_network(self.model), "margin", 0)
        needed = 2 * margin + -2 * margin % MULTIPLE
        return (max(overlap, needed), margin) if needed <= tile // 2 else (overlap, 0)

    def _mean_square(self, rgb: np.ndarray, normalise: Callable[[np.ndarray], np.ndarray]) -> float | None:
        """Returns the mean square of a photo, whose tiles differ in it, if the network normalises the exposure."""
        if not getattr(self.model, "normalise_exposure", False):
            return None
        parts = (normalise(rgb[row : row + TILE]) for row in range(0, len(rgb), TILE))
        return sum(float(np.square(part).sum(dtype=np.float64)) for part in parts) / rgb.size


def _pixels(rgb: np.ndarray | Photo, encoding: Encoding) -> tuple[np.ndarray, Encoding]:
    """Returns the values of a photo or an array, and their encoding."""
    return (rgb.codes, rgb.encoding) if isinstance(rgb, Photo) else (rgb, encoding)


def load(checkpoint: str | os.PathLike[str] = NETWORK, which: Which = "best") -> Predictor:
    """Loads a trained model, ready to predict.

    Args:
        checkpoint: a training workdir, or a folder that `m3sr convert` wrote; by default the model for any photo that
            is part of the package, described in m3sr_jax/pretrained/MODEL_CARD.md. `m3sr_jax.REGRESSION` is the
            regression that this model builds on: less accurate, and twenty times as fast.
        which: in a workdir, the checkpoint with the best PSNR or the latest one.

    Raises:
        InputError: see `load_model`.
    """
    model, params, card = load_model(checkpoint, which)
    return Predictor(model, jax.device_put(params), card, load_interval(checkpoint, card))


def run_network(
    model: nn.Module, params: Any, rgb: Float[np.ndarray, "H W 3"], mean_square: float | None = None
) -> Float32[np.ndarray, "H W S"]:
    """Reconstructs the cube of a whole image in one pass.

    The program is compiled once for each model and image size; the model itself pads the image and crops the cube.

    Args:
        model: the network.
        params: its parameters.
        rgb: photo, (H, W, 3) in [0, 1], normalised as in training (see `normalise_rgb`).
        mean_square: of the whole photo, if this is a tile of it and the model is a `WithBase`.

    Returns:
        The cube, (H, W, S), not clipped.

    Raises:
        InputError: the model rejects the image's size, or the image does not fit in memory.
    """
    image = f"image of {rgb.shape[0]}×{rgb.shape[1]} pixels"
    try:
        whole = () if mean_square is None else (np.float32(mean_square),)
        return np.asarray(_apply(model, params, rgb[None].astype(np.float32), *whole)[0], np.float32)
    except ValueError as error:
        raise InputError(f"{image}: {error}") from error
    except jax.errors.JaxRuntimeError as error:
        if not short_of_memory(error):
            raise
        raise InputError(
            f"{image}: does not fit in memory at once; choose a smaller tile (m3sr evaluate takes whole images: "
            "use m3sr predict --tile and m3sr score)"
        ) from error


@partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, params: Any, rgb: jax.Array, *whole: jax.Array) -> jax.Array:
    return model.apply({"params": params}, rgb, *whole)  # type: ignore[return-value]


def check_tiles(tile: int | None, overlap: int) -> None:
    """Raises InputError if `Predictor.predict` does not accept this tile and overlap."""
    half = (tile or TILE) // 2
    if tile is not None and (tile % MULTIPLE or 0 < tile < MIN_TILE or tile < 0):
        expected = f"0 (the whole image) or a multiple of {MULTIPLE} of at least {MIN_TILE}"
        raise InputError(f"tile: found {tile}, expected {expected}")
    if overlap % MULTIPLE or not 0 <= overlap <= half:
        raise InputError(f"overlap: found {overlap}, expected a multiple of {MULTIPLE} up to half a tile, {half}")


def _normaliser(
    rgb: Num[np.ndarray, "H W 3"], card: ModelCard, encoding: Encoding
) -> Callable[[np.ndarray], np.ndarray]:
    """Checks a photo and returns the function that makes a part of it the network's input.

    A large photo stays in its codes that way.

    Raises:
        InputError: see `Predictor.predict`.
    """
    if encoding not in ("srgb", "linear"):
        raise InputError(f'encoding: found "{encoding}", expected "srgb" or "linear"')
    if rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < 8:
        raise InputError(f"photo of shape {rgb.shape}: expected (height, width, 3), both sides at least 8 pixels")
    largest = np.float32(np.iinfo(rgb.dtype).max if rgb.dtype.newbyteorder("=") in (np.uint8, np.uint16) else 1)
    low, high = (float(np.float32(extreme) / largest) for extreme in (rgb.min(), rgb.max()))
    if largest == 1 and (rgb.dtype.kind != "f" or not -1e-3 <= low <= high <= 1 + 1e-3):
        found = f"{rgb.dtype} values from {low:g} to {high:g}"
        raise InputError(f"photo: found {found}; expected floating-point RGB in [0, 1], or 8- or 16-bit codes")

    def normalise(part: np.ndarray) -> np.ndarray:
        values = converted(np.divide(part, largest, dtype=np.float32), encoding, card.encoding)
        return normalise_rgb(values, card.rgb_normalization, (low, high))

    return normalise
