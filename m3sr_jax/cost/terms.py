"""What single layers cost; `m3sr_jax.cost.count` says how each count is defined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Cost:
    """Counts of one part of a model, or of all of it, for one image.

    Attributes:
        parameters: numbers the model holds and uses.
        unused: numbers that only the release holds, and never uses.
        flops: exact floating-point operations.
        thop_parameters: parameters that thop sees.
        thop_flops: operations that thop sees, two a multiply-add.
        scan_flops: the share of `flops` that the recurrences take.
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


def conv(taps: int, inputs: int, outputs: int, pixels: int, *, bias: bool = False) -> Cost:
    """A convolution with `taps` kernel positions and `pixels` outputs; 1 tap is linear, 1 input depthwise."""
    weights = taps * inputs * outputs
    parameters, flops = weights + bias * outputs, 2 * weights * pixels
    return Cost(parameters, flops, parameters, flops)


def up_conv(inputs: int, outputs: int, pixels: int) -> Cost:
    """The 2×2 transposed convolution of stride 2 on `pixels` inputs; thop has every tap reach every output pixel."""
    cost = conv(4, inputs, outputs, pixels, bias=True)
    return dataclasses.replace(cost, thop_flops=4 * cost.thop_flops)


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
    """The mean of each channel over the image: for thop a multiply-add a value."""
    return Cost(thop_flops=2 * channels * (pixels + 1))


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
