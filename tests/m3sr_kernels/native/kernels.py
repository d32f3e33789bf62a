"""Every kernel with arguments of random sizes, as its handler takes them."""

import functools
import importlib
from unittest import mock

import numpy as np
from m3sr_kernels.mamba_token_mix.native_block import ROWS
from m3sr_kernels.native import compiler, ffi
from m3sr_kernels.native.target import host

from .frames import FencedMemory

TAPS, TOKENS, NORM_GROUPS, EPSILON = 4, 3, 3, 1e-5
# Op → its folder, and what its kernels have compiled in for N states.
OPS = {
    "s6": ("s6_scan", lambda N: (N, 0)),
    "s6gated": ("s6_scan", lambda N: (N, 1)),
    "ss2d": ("ss2d_scan", lambda N: (N,)),
    "ssd": ("ssd_scan", lambda N: (N,)),
    "mix": ("mamba_token_mix", lambda N: (TOKENS, N, TAPS)),
    "conv": ("depthwise_conv_silu", lambda N: ()),
    "norm": ("layer_norm", lambda N: (EPSILON,)),
    "groupnorm": ("group_norm_silu", lambda N: (NORM_GROUPS, EPSILON)),
}


def make(op, which, states):
    """A kernel as `native.call` makes it."""
    folder, fixed = OPS[op]
    module = importlib.import_module(f"m3sr_kernels.{folder}.native_{which}")
    return getattr(module, which.capitalize())(*fixed(states))


KERNELS = {f"{op} {which}": functools.partial(make, op, which) for op in OPS for which in ("forward", "backward")}


MEMORY = FencedMemory()


@functools.cache
def address(name, states):
    """The kernel's handler, whose working memory is fenced, and the kernel."""
    kernel = KERNELS[name](states)
    symbol = f"test_{name.replace(' ', '_')}_{states}"
    functions = compiler._process_functions() | MEMORY.functions
    with mock.patch.object(compiler, "_process_functions", return_value=functions):
        return compiler.load(symbol, functools.partial(ffi.add_handler, name=symbol, kernel=kernel)), kernel


def sizes(rng, states):
    """Sizes for all letters of all signatures."""
    low = lambda top: int(rng.integers(1, top + 1))  # noqa: E731
    groups, heads, width, features, rank = low(2), low(5), low(40), low(40), low(3)
    whole = max(ROWS, host().lanes)
    up = lambda size: -(-size // whole) * whole  # noqa: E731
    E, O, Q = up(2 * features), up(features), up(2 * states + rank)
    sums = O * 2 * E + E * (TAPS + 1 + Q + rank + 1 + states + 1 + O)
    image = {"B": low(3), "H": low(20), "W": low(20), "R": heads, "P": width, "I": heads * width, "N": states}
    line = {"B": low(3), "L": low(90), "G": groups, "H": groups * low(3), "P": width, "N": states}
    block = {"M": low(30), "L": TOKENS, "C": features, "U": 2 * E, "E": E, "O": O, "Q": Q, "K": rank}
    block |= {"J": TAPS, "N": states, "T": sums}
    B, H, W, C = (int(size) for size in rng.spawn(1)[0].integers(1, [4, 31, 21, 41]))
    photo = {"B": B, "H": H, "W": W, "C": 15 + C}
    rows = {"M": 15 + B * H, "C": 15 + C}
    groups = {"B": B, "L": H * W, "C": NORM_GROUPS * (5 + C)}
    norms = {"norm": rows, "groupnorm": groups}
    return (
        {"ss2d": image, "ssd": line, "mix": block, "conv": photo}
        | norms
        | dict.fromkeys(("s6", "s6gated"), tokens(rng.spawn(1)[0], states))
    )


def tokens(rng, states):
    """Many short sequences, or a few long ones."""
    most = [(40, 7), (4, 200)][rng.integers(2)]
    M, L, D = (int(size) for size in rng.integers(1, [*most, 41]))
    return {"M": M, "L": L, "D": D, "E": -(-D // 16) * 16, "N": states}


def buffers(shapes, letters, rng):
    """Random arrays; what is a rate is negative."""
    arrays = []
    for name, shape in shapes.items():
        size = tuple(letters.get(axis) or int(axis) for axis in shape.split())
        array = rng.standard_normal(size).astype(np.float32)
        arrays.append(-np.abs(array) if name in ("a", "rates") else array)
    return arrays
