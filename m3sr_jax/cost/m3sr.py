"""What M3SR costs, by part, from its fields alone; `m3sr_jax.cost.count` defines each count and its conventions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from m3sr_jax.cost.terms import RGB, Cost, conv, layer_norm, padded, times, unet
from m3sr_jax.models.m3sr import M3SR
from m3sr_jax.models.spectral import CONV_WIDTH
from m3sr_jax.models.spectral import STATE_SIZE as SPECTRAL_STATE
from m3sr_jax.models.ss2d import DIRECTIONS, num_heads
from m3sr_jax.models.ss2d import STATE_SIZE as SPATIAL_STATE
from m3sr_jax.models.unet import LEVELS
from m3sr_jax.models.wavelets import dwt2


def m3sr_costs(model: M3SR, height: int, width: int) -> dict[str, Cost]:
    """Counts M3SR's parts in the order of the network."""
    height, width = padded(model, height, width)
    pixels, bands, features = height * width, model.num_bands, model.features
    parts = {"first, last conv": conv(9, RGB, bands, pixels) + conv(9, bands, bands, pixels)}
    parts["U-Net convs"] = times(unet(bands, features, pixels), model.num_stages)
    for level, blocks in enumerate(model.num_blocks):
        count = model.num_stages * blocks * (1 if level == LEVELS else 2)
        for name, cost in _block(model, features << level, height >> level, width >> level):
            parts[name] = parts.get(name, Cost()) + times(cost, count)
    return parts


def _block(model: M3SR, channels: int, height: int, width: int) -> Iterator[tuple[str, Cost]]:
    """Yields the parts of one MPF block on an image of that size."""
    if "spatial" in model.branches:
        yield "spatial branch", _residual_ss2d(channels, height * width)
    if "frequency" in model.branches:
        image = jax.ShapeDtypeStruct((1, height, width, 1), jnp.float32)
        bands = jax.eval_shape(partial(dwt2, wavelet=model.wavelet), image)
        yield "frequency branch", _residual_ss2d(4 * channels, bands.shape[1] * bands.shape[2])
    if "spectral" in model.branches:
        yield "spectral branch", _spectral(channels, model.num_groups, height * width)
    # The release's blocks hold an unused MLP, C → 2C → C with biases.
    yield "fusion weights", Cost(parameters=len(model.branches), unused=4 * channels**2 + 3 * channels)


def _residual_ss2d(width: int, pixels: int) -> Cost:
    """Counts LayerNorm and SS2D of E channels."""
    inner, heads = 2 * width, num_heads(width)
    matrices = conv(1, width, inner, pixels) + conv(9, 1, inner, pixels) + conv(1, inner, width, pixels)
    projection = DIRECTIONS * (heads + 2 * SPATIAL_STATE) * inner
    # Per direction: a decay per head (multiply, exp); Δ·x; for each state h·decay + b·(Δx) and c·h; the skip d·x.
    scan = DIRECTIONS * (2 * heads + inner * (1 + 5 * SPATIAL_STATE + 2)) + (DIRECTIONS - 1) * inner
    parameters = projection + DIRECTIONS * (2 * heads + inner)
    own = Cost(parameters, flops=(2 * projection + scan) * pixels, scan_flops=scan * pixels)
    return layer_norm(width, pixels) + matrices + own + layer_norm(inner, pixels)


def _spectral(channels: int, groups: int, pixels: int) -> Cost:
    """Counts the widening, Mamba over G tokens, GroupNorm and the narrowing."""
    inner, rank, tokens = 2 * channels, -(-channels // 16), groups * pixels
    matrices = channels * 2 * inner + CONV_WIDTH * inner + inner * (rank + 2 * SPECTRAL_STATE) + rank * inner
    matrices += inner * channels
    # As in SS2D, but with a decay for every channel and state.
    scan = inner * (1 + 7 * SPECTRAL_STATE + 2)
    parameters = matrices + 2 * inner + inner * (SPECTRAL_STATE + 1) + 2 * groups * channels
    mixer = Cost(parameters, flops=(2 * matrices + scan) * tokens, scan_flops=scan * tokens)
    expand = conv(1, channels, groups * channels, pixels, bias=True)
    return expand + mixer + conv(1, groups * channels, channels, pixels, bias=True)
