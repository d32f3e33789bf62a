"""Every kernel with arguments of random sizes, as its handler takes them."""

import functools

import numpy as np
from m3sr_kernels.depthwise_conv_silu import native_kernels as conv
from m3sr_kernels.mamba_token_mix import native_kernels as mixer
from m3sr_kernels.native import ffi, scan, scan_gradient
from m3sr_kernels.native.compiler import load
from m3sr_kernels.native.target import host
from m3sr_kernels.ss2d_scan.native_kernels import Image
from m3sr_kernels.ssd_scan import native_kernels as ssd

KERNELS = {
    "ss2d forward": lambda N: scan.Forward(Image(), N, {"y": "B H W I"}),
    "ss2d backward": lambda N: scan_gradient.Backward(
        Image(), N, {"dy": "B H W I"}, {f"d{name}": shape for name, shape in Image.inputs.items()}
    ),
    "ssd forward": ssd.Forward,
    "ssd backward": ssd.Backward,
    "mix forward": lambda N: mixer.Forward(3, N, 4),
    "mix backward": lambda N: mixer.Backward(3, N, 4),
    "conv forward": lambda _: conv.Forward(),
    "conv backward": lambda _: conv.Backward(),
}


@functools.cache
def address(name, states):
    """The kernel's handler, and the kernel."""
    kernel = KERNELS[name](states)
    symbol = f"test_{name.replace(' ', '_')}_{states}"
    return load(symbol, functools.partial(ffi.add_handler, name=symbol, kernel=kernel)), kernel


def sizes(rng, states):
    """Sizes for all letters of all signatures."""
    low = lambda top: int(rng.integers(1, top + 1))  # noqa: E731
    groups, heads, width, features, rank = low(2), low(5), low(40), low(40), low(3)
    whole = max(mixer.ROWS, host().lanes)
    up = lambda size: -(-size // whole) * whole  # noqa: E731
    E, O, Q = up(2 * features), up(features), up(2 * states + rank)
    sums = O * 2 * E + E * (4 + 1 + Q + rank + 1 + states + 1 + O)
    image = {"B": low(3), "H": low(20), "W": low(20), "R": heads, "P": width, "I": heads * width, "N": states}
    line = {"B": low(3), "L": low(90), "G": groups, "H": groups * low(3), "P": width, "N": states}
    block = {"M": low(30), "L": 3, "C": features, "U": 2 * E, "E": E, "O": O, "Q": Q, "K": rank, "J": 4, "N": states}
    B, H, W, C = (int(size) for size in rng.spawn(1)[0].integers(1, [4, 31, 21, 41]))
    return {"ss2d": image, "ssd": line, "mix": block | {"T": sums}, "conv": {"B": B, "H": H, "W": W, "C": 15 + C}}


def buffers(shapes, letters, rng):
    """Random arrays; what is a rate is negative."""
    arrays = []
    for name, shape in shapes.items():
        size = tuple(letters.get(axis) or int(axis) for axis in shape.split())
        array = rng.standard_normal(size).astype(np.float32)
        arrays.append(-np.abs(array) if name in ("a", "rates") else array)
    return arrays
