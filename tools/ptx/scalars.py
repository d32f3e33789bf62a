"""PTX's scalar types as NumPy types. Generated code uses PTX's names for them."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np

TYPES: dict[str, Any] = {
    "pred": np.bool_,
    **{f"b{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"s{bits}": getattr(np, f"int{bits}") for bits in (8, 16, 32, 64)},
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
}
FLOATS = ("f16", "bf16", "f32", "f64")
WIDER = {"16": "32", "32": "64"}  # of a product


def size_of(name: str) -> int:
    """Bytes of a type."""
    return np.dtype(TYPES[name]).itemsize


def bits_of(name: str) -> str:
    """The unsigned type of the same size, as which registers are stored; "pred" for itself."""
    return name if name == "pred" else f"b{8 * size_of(name)}"


def is_signed(name: str) -> bool:
    return name.startswith("s")


def literal(text: str) -> int | None:
    """The bits of a literal such as 7, -0x1F, 0f3F800000 or 0d3FF0000000000000; None if `text` is not one."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}", text):
        return int(text[2:], 16)
    match = re.fullmatch(r"(-?(?:0[xX][0-9a-fA-F]+|\d+))U?", text)
    return int(match.group(1), 0) if match else None
