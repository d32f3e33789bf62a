"""Instructions that the threads of a warp execute together.

`machine` is a `tools.ptx.machine.Machine`; arrays have one element a thread of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tools.ptx.machine import Machine

WARP = 32
ALL_LANES = 0xFFFFFFFF


def shuffle(machine: Machine, kind: str, value, by, limits, members, mask, text: str) -> tuple[np.ndarray, np.ndarray]:
    """`shfl.sync`: the value of another lane, and whether there is one.

    Args:
      machine: the threads.
      kind: "bfly", "idx", "up" or "down".
      value: what each thread offers.
      by: distance, or number, of the other lane.
      limits: bits 0-4 bound the lane, bits 8-12 divide the warp into segments.
      members: bit mask of the lanes that take part.
      mask: threads that execute the instruction; None means all.
      text: the instruction, for messages.
    """
    if len(by) == len(limits) == 1:
        key = (kind, int(by[0]), int(limits[0]))
        if key not in machine.sources:
            machine.sources[key] = _sources(machine, kind, by, limits)
        where, exists = machine.sources[key]
    else:
        where, exists = _sources(machine, kind, *machine.spread(by, limits))
    _check_members(machine, members, mask, where, text)
    [value] = machine.spread(value)
    return value[where], exists


def _sources(machine: Machine, kind: str, by: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The thread that each thread hears, itself if there is none, and whether there is one."""
    lane = machine.lane.astype(np.int64)
    distance, bound = (by & 31).astype(np.int64), (limits & 31).astype(np.int64)
    segment = (limits >> np.uint32(8) & np.uint32(31)).astype(np.int64)
    highest = (lane & segment) | (bound & ~segment & 31)
    source = {
        "bfly": lane ^ distance,
        "idx": (lane & segment) | (distance & ~segment & 31),
        "up": lane - distance,
        "down": lane + distance,
    }[kind]
    exists = source >= highest if kind == "up" else source <= highest
    return np.arange(machine.width) - lane + np.where(exists, source, lane), exists


def _check_members(machine: Machine, members, mask, where, text: str) -> None:
    """Every source must execute the instruction too, and every thread be a member."""
    machine.pass_together(mask)
    if mask is None and len(members) == 1 and members[0] == ALL_LANES:
        return
    absent = (members >> machine.lane & np.uint32(1)) == 0
    if mask is not None:
        absent = (absent | ~mask[where]) & mask
    machine.report.add("shuffle with a thread that is not there", text, machine, np.flatnonzero(absent))


def vote(machine: Machine, kind: str, predicate, members, mask, text: str) -> np.ndarray:
    """`vote.sync`: "ballot" gives a bit mask, "any", "all" and "uni" a predicate."""
    [predicate] = machine.spread(predicate)
    _check_members(machine, members, mask, np.arange(machine.width), text)
    votes = predicate if mask is None else predicate & mask
    present = np.ones(machine.width, bool) if mask is None else mask
    ballots = _per_warp(np.left_shift(votes.astype(np.uint32), machine.lane), np.bitwise_or)
    everyone = _per_warp(np.left_shift(present.astype(np.uint32), machine.lane), np.bitwise_or)
    return {
        "ballot": ballots,
        "any": ballots != 0,
        "all": ballots == everyone,
        "uni": (ballots == 0) | (ballots == everyone),
    }[kind]


def reduce(machine: Machine, kind: str, value, members, mask, text: str) -> np.ndarray:
    """`redux.sync` of all 32 lanes: add, min, max, and, or, xor."""
    [value] = machine.spread(value)
    _check_members(machine, members, mask, np.arange(machine.width), text)
    functions = {"add": np.add, "min": np.minimum, "max": np.maximum}
    functions |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
    return _per_warp(value, functions[kind])


def _per_warp(value: np.ndarray, function: np.ufunc) -> np.ndarray:
    return np.repeat(function.reduce(value.reshape(-1, WARP), axis=1, dtype=value.dtype), WARP)


def elect(machine: Machine, members) -> tuple[np.ndarray, np.ndarray]:
    """`elect.sync`: the lowest member, and whether a thread is the one."""
    [members] = machine.spread(members)
    leader = np.log2((members & (~members + np.uint32(1))).astype(np.float64)).astype(np.uint32)
    return leader, machine.lane == leader


def store_matrices(machine: Machine, address, values, transposed: bool, mask, text: str) -> None:
    """`stmatrix`: 8×8 matrices of 16 bits; lane 8k + r has the address of row r of matrix k."""
    [address] = machine.spread(address)
    for number, value in enumerate(machine.spread(*values)):
        for half in range(2):
            at = _matrix_address(machine, address, number, half, transposed)
            bits = (value >> np.uint32(16 * half)).astype(np.uint16)
            machine.store("shared", at, [bits], 2, mask, text)


def load_matrices(machine: Machine, address, count: int, transposed: bool, mask, text: str) -> list[np.ndarray]:
    """`ldmatrix`, the inverse of `store_matrices`."""
    [address] = machine.spread(address)
    result = []
    for number in range(count):
        value = np.zeros(machine.width, np.uint32)
        for half in range(2):
            at = _matrix_address(machine, address, number, half, transposed)
            value |= machine.load("shared", at, 2, 1, mask, text)[0].astype(np.uint32) << np.uint32(16 * half)
        result.append(value)
    return result


def _matrix_address(machine: Machine, address, number: int, half: int, transposed: bool) -> np.ndarray:
    """Lane l holds elements 2·(l mod 4) and the next of row l div 4."""
    lane = machine.lane.astype(np.int64)
    row, column = lane // 4, 2 * (lane % 4) + half
    if transposed:
        row, column = column, row
    first = np.arange(machine.width) - lane
    return address[first + 8 * number + row] + (2 * column).astype(np.uint64)
