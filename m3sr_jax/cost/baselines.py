"""What the baselines cost, by part, from their fields alone; `m3sr_jax.cost.count` defines each count.

Each function takes a model and the image's height and width in pixels, and returns part name → counts.
"""

from __future__ import annotations

import functools
import itertools
import math

from m3sr_jax.cost.terms import RGB, Cost, conv, layer_norm, padded, pooling, shared, times, total, unet
from m3sr_jax.models.base import PlainRegression, WithBase
from m3sr_jax.models.baselines.essaformer import ESSAformer
from m3sr_jax.models.baselines.fmnet import SIZES, WEIGHT_LAYERS, FMNet
from m3sr_jax.models.baselines.gmsr import GMSR, STATE_SIZE, WIDTHS
from m3sr_jax.models.baselines.hrnet import HRNet
from m3sr_jax.models.baselines.hscnn_plus import GROWTH, WIDTH, HSCNNPlus
from m3sr_jax.models.baselines.hsrnet import GROUPS, HSRNet
from m3sr_jax.models.baselines.hsrnet import WIDTH as REFINEMENT_WIDTH
from m3sr_jax.models.baselines.mst_plus_plus import MSTPlusPlus
from m3sr_jax.models.pixel import Pixel
from m3sr_jax.models.ss2d import DIRECTIONS
from m3sr_jax.models.unet import LEVELS
from m3sr_jax.regression import terms_of

biased = functools.partial(conv, bias=True)


def pixel_costs(model: Pixel, height: int, width: int) -> dict[str, Cost]:
    """Counts the pixel network; its roots are left out, as all elementwise work is."""
    sizes = [3 * RGB, model.width, model.width, model.num_bands]
    pairs = itertools.pairwise(sizes)
    return {"1×1 layers": total(biased(1, inputs, outputs, height * width) for inputs, outputs in pairs)}


def regression_costs(model: PlainRegression | WithBase, height: int, width: int) -> dict[str, Cost]:
    """Counts a regression; its products and roots are left out, as all elementwise work is."""
    return {"regression": conv(1, len(terms_of(model.base)), model.num_bands, height * width)}


def base_costs(model: WithBase, height: int, width: int) -> dict[str, Cost]:
    """Counts what a base adds to its network: the gains, the regression, the pixel head and the exact colour."""
    parts = {"gains": Cost(parameters=model.num_bands)}
    if model.base != "none":
        parts |= regression_costs(model, height, width)
    if model.pixel_head:
        parts["pixel head"] = total(pixel_costs(Pixel(num_bands=model.num_bands), height, width).values())
    if model.exact_colour:
        there, back = ((model.num_bands, RGB), (RGB, model.num_bands))
        parts["exact colour"] = conv(1, *there, height * width) + conv(1, *back, height * width)
    return parts


def mst_plus_plus_costs(model: MSTPlusPlus, height: int, width: int) -> dict[str, Cost]:
    """Counts MST++; thop misses attention's two products and `rescale`."""
    pixels, features, bands = math.prod(padded(model, height, width)), model.features, model.num_bands
    attention = feed_forward = Cost()
    for level in range(LEVELS + 1):
        channels, here, count = features << level, pixels >> 2 * level, 1 if level == LEVELS else 2
        products = Cost(parameters=2**level, flops=4 * channels * features * here)
        projections = times(conv(1, channels, channels, here), 3) + biased(1, channels, channels, here)
        attention += times(projections + products + times(conv(9, 1, channels, here), 2), count)
        wide = conv(1, channels, 4 * channels, here) + conv(1, 4 * channels, channels, here)
        feed_forward += times(layer_norm(channels, here) + wide + conv(9, 1, 4 * channels, here), count)
    return {
        "first, last conv": conv(9, RGB, bands, pixels) + conv(9, bands, bands, pixels),
        "U-Net convs": times(unet(bands, features, pixels), model.transformers),
        "attention": times(attention, model.transformers),
        "feed-forward": times(feed_forward, model.transformers),
    }


def hscnn_plus_costs(model: HSCNNPlus, height: int, width: int) -> dict[str, Cost]:
    """Counts HSCNN+; one 1×1 convolution of the stem runs twice, and thop misses the unused one."""
    pixels = height * width
    summary = biased(1, GROWTH, GROWTH, pixels)
    again = Cost(flops=summary.flops, thop_flops=summary.thop_flops, unused=summary.parameters)
    stem = times(biased(9, RGB, GROWTH, pixels), 2) + summary + again
    block = times(biased(9, WIDTH, GROWTH, pixels), 2)
    block += times(biased(1, GROWTH, GROWTH // 2, pixels), 2) + biased(1, 3 * GROWTH, GROWTH, pixels)
    inputs = [4 * GROWTH + GROWTH * i for i in range(model.dense_blocks + 1)]
    return {
        "stem": stem,
        "dense blocks": total(biased(1, seen, WIDTH, pixels) + block for seen in inputs[:-1]),
        "last conv": biased(1, inputs[-1], model.num_bands, pixels),
    }


def hrnet_costs(model: HRNet, height: int, width: int) -> dict[str, Cost]:
    """Counts HRNet; thop includes the gates, which the release computes and discards."""
    pixels, parts = math.prod(padded(model, height, width)), {}
    for name, scale, count in (("1/8", 8, 1), ("1/4", 4, 1), ("1/2", 2, 2), ("full size", 1, 4)):
        channels, here = scale * model.width, pixels // scale**2
        cost = biased(9, RGB * scale**2, channels, here)
        if scale == 8:
            cost += biased(1, channels, channels, here)
        else:  # the input's channels and those shuffled up: a quarter of twice as many
            cost += biased(9, channels + channels // 2, channels, here)
            cost += biased(9, channels, channels if scale > 1 else model.num_bands, here)
        parts[f"scale {name}"] = cost + times(_dense_block(channels, here), count) + _global_block(channels, here)
    return parts


def _dense_block(channels: int, pixels: int) -> Cost:
    seen = [channels + i * (channels // 2) for i in range(5)]
    growth = total(biased(9, inputs, channels // 2, pixels) for inputs in seen[:-1])
    return growth + biased(9, seen[-1], channels, pixels)


def _global_block(channels: int, pixels: int) -> Cost:
    quarter = channels // 4
    gate = channels * quarter + quarter * quarter + quarter * channels
    unseen = Cost(unused=gate, thop_parameters=gate, thop_flops=2 * gate)
    return times(biased(9, channels, channels, pixels), 2) + unseen + pooling(channels, pixels)


def gmsr_costs(model: GMSR, height: int, width: int) -> dict[str, Cost]:
    """Counts GMSR; thop misses the scans' projections and recurrences."""
    pixels, before = height * width, RGB
    parts: dict[str, Cost] = dict.fromkeys(("1×1 convs", "SS2D", "spatial attention", "spectral attention"), Cost())
    kernel = 2 * 49
    for channels in (*WIDTHS, model.num_bands):
        parts["1×1 convs"] += conv(1, before, channels, pixels) + biased(1, 3 * channels, channels, pixels)
        parts["SS2D"] += _mamba_ss2d(channels, pixels) + Cost(unused=2 * channels)
        parts["spatial attention"] += Cost(flops=2 * kernel * pixels, thop_flops=2 * kernel * pixels)
        parts["spectral attention"] += _channel_gate(channels) + pooling(channels, pixels)
        before = channels
    parts["spatial attention"] += Cost(parameters=kernel, thop_parameters=kernel)
    return parts


def _mamba_ss2d(channels: int, pixels: int) -> Cost:
    inner, rank = 2 * channels, -(-channels // 16)
    matrices = conv(1, channels, 2 * inner, pixels) + biased(9, 1, inner, pixels)
    matrices += conv(1, inner, channels, pixels)
    projections = DIRECTIONS * inner * (rank + 2 * STATE_SIZE + rank)
    # As in M3SR's spectral branch, with a decay for every channel and state; the directions are summed.
    scan = DIRECTIONS * inner * (1 + 7 * STATE_SIZE + 2) + (DIRECTIONS - 1) * inner
    parameters = projections + DIRECTIONS * inner * (STATE_SIZE + 2)
    own = Cost(parameters, flops=(2 * projections + scan) * pixels, scan_flops=scan * pixels)
    return layer_norm(channels, pixels) + matrices + own + layer_norm(inner, pixels)


def hsrnet_costs(model: HSRNet, height: int, width: int) -> dict[str, Cost]:
    """HSRNet: a gate runs on the means and on the maxima; thop counts the means as a multiply-add a value."""
    pixels, bands = height * width, model.num_bands
    first = total(biased(9, 2 * RGB - 1, n, pixels) + biased(1, n, n, pixels) for n in GROUPS.values())
    refinement = biased(9, bands, REFINEMENT_WIDTH, pixels) + biased(9, REFINEMENT_WIDTH, bands, pixels)
    refinement += biased(1, bands, bands, pixels)
    return {
        "first cube": first,
        "convs": times(biased(9, bands, bands, pixels), model.stages),
        "refinements": times(refinement, model.stages),
        "gates": times(_channel_gate(bands) + pooling(bands, pixels), 2 * model.stages),
    }


def _channel_gate(channels: int) -> Cost:
    """Two linear layers that run on the mean and on the largest value of each channel."""
    once = times(conv(1, channels, channels, 1), 2)
    return once + Cost(flops=once.flops, thop_flops=once.thop_flops)


def fmnet_costs(model: FMNet, height: int, width: int) -> dict[str, Cost]:
    """FMNet: all of it is convolutions."""
    pixels, channels = height * width, model.width
    mixtures = [(channels, channels)] * model.blocks
    mixtures += [(model.blocks * channels, channels), (channels, model.num_bands)]
    functions = total(
        biased(size**2, inputs, channels, pixels) + biased(size**2, channels, outputs, pixels)
        for inputs, outputs in mixtures
        for size in SIZES
    )
    weights = total(
        conv(9, inputs, channels, pixels)
        + times(conv(9, channels, channels, pixels), WEIGHT_LAYERS)
        + conv(9, channels, len(SIZES), pixels)
        for inputs, _ in mixtures
    )
    convs = conv(9, model.num_bands, channels, pixels) + times(conv(9, channels, channels, pixels), model.blocks)
    return {"convs": convs, "functions": functions, "weights": weights}


def essaformer_costs(model: ESSAformer, height: int, width: int) -> dict[str, Cost]:
    """ESSAformer: two blocks' parameters are used five times; thop does not see attention's two products."""
    pixels, channels, calls = height * width, model.width, 5
    products = Cost(flops=4 * channels**2 * pixels)
    attention = layer_norm(channels, pixels) + biased(1, channels, 3 * channels, pixels)
    attention += biased(1, channels, channels, pixels) + products
    convs = total(biased(taps, 2 * channels, 2 * channels, pixels) for taps in (1, 9))
    convs += biased(1, 2 * channels, channels, pixels)
    return {
        "first, last conv": biased(9, RGB, channels, pixels) + biased(9, channels, model.num_bands, pixels),
        "attention": shared(attention, 2, calls),
        "convs": shared(convs, 2, calls),
    }
