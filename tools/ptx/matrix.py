"""`mma.sync`: products of small matrices whose elements are spread over the threads of a warp.

The layout is that of the PTX ISA, "Warp-level matrix instructions": of m16n8k4, m16n8k8 and m16n8k16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tools.ptx.errors import UnsupportedError
from tools.ptx.scalars import TYPES
from tools.ptx.warp import WARP

if TYPE_CHECKING:
    from tools.ptx.machine import Machine

_LANE = np.arange(WARP)
_GROUP, _PLACE = _LANE // 4, _LANE % 4


def multiply(machine: Machine, kind: str, a, b, c, mask, text: str) -> list[np.ndarray]:
    """a·b + c of a warp, summed in float64 and rounded once; a is 16×k, b k×8, c and the result 16×8.

    Args:
      machine: the threads.
      kind: "tf32", of which the product ignores the lowest 13 bits; "bf16" or "f16", two to a register.
      a: registers, as their bits; register r holds rows from 8·(r mod 2) and columns from the (r div 2)-th part of k.
      b: the same; register r holds rows from the r-th part of k.
      c: four registers, as float32.
      mask: threads that execute the instruction; None means all.
      text: the instruction, for messages.

    Returns:
      Four registers, float32.
    """
    if mask is not None:
        whole = mask.reshape(-1, WARP)
        split = np.repeat(whole.any(1) & ~whole.all(1), WARP)
        machine.report.add("matrix product in a warp that has split", text, machine, np.flatnonzero(split))
    machine.pass_together(mask)
    left = [_elements(machine, register, kind) for register in a]
    right = [_elements(machine, register, kind) for register in b]
    count = left[0].shape[-1]
    depth, warps = 4 * count * len(right), machine.width // WARP
    matrix_a, matrix_b, sums = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8)), np.zeros((warps, 16, 8))
    for number in range(count):
        for register, values in enumerate(left):
            column = _PLACE * count + number + 4 * count * (register // 2)
            matrix_a[:, _GROUP + 8 * (register % 2), column] = values[..., number]
        for register, values in enumerate(right):
            matrix_b[:, _PLACE * count + number + 4 * count * register, _GROUP] = values[..., number]
    places = [(_GROUP + 8 * (register // 2), 2 * _PLACE + register % 2) for register in range(4)]
    for place, register in zip(places, c, strict=True):
        sums[:, *place] = machine.spread(register)[0].reshape(warps, WARP)
    result = (matrix_a @ matrix_b + sums).astype(np.float32)
    return [result[:, *place].reshape(-1) for place in places]


def _elements(machine: Machine, register: np.ndarray, kind: str) -> np.ndarray:
    """The numbers in a register, (warps, lanes, numbers)."""
    bits = np.ascontiguousarray(machine.spread(register)[0])
    if kind == "tf32":
        values = (bits & np.uint32(0xFFFFE000)).view(np.float32)
    elif kind in ("bf16", "f16"):
        values = bits.view(TYPES[kind])
    else:
        raise UnsupportedError(f"the PTX interpreter does not know matrix products of {kind}")
    return values.astype(np.float64).reshape(machine.width // WARP, WARP, -1)
