"""What single layers cost; `m3sr_jax.cost.count` defines each count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from m3sr_jax.models.image import ImageNetwork
from m3sr_jax.models.unet import LEVELS

RGB = 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counts of a model or of one of its parts, for one image.

    Attributes:
        parameters: parameters of the model.
        flops: exact floating-point operations.
        thop_parameters: parameters that thop counts.
        thop_flops: operations that thop counts, two per multiply-add.
        unused: parameters that the release holds and never uses; the model lacks them.
        scan_flops: the recurrences' part of `flops`.
    """

    parameters: int = 0
    flops: int = 0
    thop_parameters: int = 0
    thop_flops: int = 0
    unused: int = 0
    scan_flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(mine + theirs for mine, theirs in pairs))


def padded(model: ImageNetwork, height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of an image inside a network."""
    return height + -height % model.MULTIPLE, width + -width % model.MULTIPLE


def conv(taps: int, inputs: int, outputs: int, pixels: int, *, bias: bool = False) -> Cost:
    """Counts a convolution with `taps` kernel positions and `pixels` outputs; `inputs` is 1 if it is depthwise."""
    weights = taps * inputs * outputs
    parameters, flops = weights + bias * outputs, 2 * weights * pixels
    return Cost(parameters, flops, parameters, flops)


def up_conv(inputs: int, outputs: int, pixels: int) -> Cost:
    """Counts the 2×2 transposed convolution of stride 2 on `pixels` inputs; thop counts every tap at every output."""
    cost = conv(4, inputs, outputs, pixels, bias=True)
    return dataclasses.replace(cost, thop_flops=4 * cost.thop_flops)


def unet(bands: int, features: int, pixels: int) -> Cost:
    """Counts the convolutions of `m3sr_jax.models.unet.UNet` on an image of `pixels`."""
    cost = conv(9, bands, features, pixels) + conv(9, features, bands, pixels)
    for level in range(LEVELS):
        width, here = features << level, pixels >> 2 * level
        cost += conv(16, width, 2 * width, here // 4) + up_conv(2 * width, width, here // 4)
        cost += conv(1, 2 * width, width, here)
    return cost


def layer_norm(channels: int, pixels: int) -> Cost:
    return Cost(parameters=2 * channels, thop_parameters=2 * channels, thop_flops=2 * 4 * channels * pixels)


def times(cost: Cost, count: int) -> Cost:
    return Cost(*(count * value for value in dataclasses.astuple(cost)))


def shared(cost: Cost, modules: int, calls: int) -> Cost:
    """Modules of that cost a call, which are called more often than there are modules."""
    used = times(cost, calls)
    parameters, seen, unused = (modules * count for count in (cost.parameters, cost.thop_parameters, cost.unused))
    return dataclasses.replace(used, parameters=parameters, thop_parameters=seen, unused=unused)


def pooling(channels: int, pixels: int) -> Cost:
    """Counts the mean of each channel over the image; for thop, a multiply-add per value."""
    return Cost(thop_flops=2 * channels * (pixels + 1))


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
