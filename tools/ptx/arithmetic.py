"""Functions that translated instructions call: what NumPy lacks or defines otherwise.

Arguments are arrays; those of one element hold for all threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST_NORMAL = np.float32(2.0**-126)


def fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a·b + c in float64, rounded about once (Dekker's product, Knuth's sum)."""
    product = a * b
    a_high, b_high = (x * 134217729.0 - (x * 134217729.0 - x) for x in (a, b))
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    total = product + c
    part = total - product
    result = total + ((product - (total - part)) + (c - part) + error)
    return np.where(np.isfinite(result) & np.isfinite(error), result, total)


def narrow(x: np.ndarray, rounding: str) -> np.ndarray:
    """float64 to float32 in a rounding mode: rn, rz, rm (down) or rp (up)."""
    nearest = x.astype(np.float32)
    back = nearest.astype(np.float64)
    if rounding == "rm":
        return np.where(back > x, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    if rounding == "rp":
        return np.where(back < x, np.nextafter(nearest, np.float32(np.inf)), nearest)
    if rounding == "rz":
        return np.where(np.abs(back) > np.abs(x), np.nextafter(nearest, np.float32(0)), nearest)
    return nearest


def flush(x: np.ndarray) -> np.ndarray:
    """Subnormal float32 numbers become 0, as `.ftz` demands."""
    return np.where(np.abs(x) < SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)


def saturate(x: np.ndarray) -> np.ndarray:
    """Clips to [0, 1]; NaN becomes 0."""
    return np.nan_to_num(np.clip(x, 0, 1), nan=0.0).astype(x.dtype)


def shift_left(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Shifts by the width or more give 0."""
    bits = 8 * x.dtype.itemsize
    return np.where(by >= bits, x.dtype.type(0), x << np.minimum(by, bits - 1).astype(x.dtype))


def shift_right(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Arithmetic for signed types; shifts by the width or more leave only the sign."""
    bits = 8 * x.dtype.itemsize
    shifted = x >> np.minimum(by, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(by >= bits, x.dtype.type(0), shifted)


def funnel(low: np.ndarray, high: np.ndarray, by: np.ndarray, *, left: bool, clamp: bool) -> np.ndarray:
    """`shf`: the upper or lower half of the 64 bits high:low, shifted."""
    by = np.minimum(by, 32) if clamp else by & np.uint32(31)
    both = (high.astype(np.uint64) << np.uint64(32)) | low
    return ((both << by) >> np.uint64(32) if left else both >> by).astype(np.uint32)


def multiply_high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of a product of integers."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide: Any = np.int64 if a.dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> wide(bits)).astype(a.dtype)
    exact = np.vectorize(lambda x, y: (int(x) * int(y)) >> 64, otypes=[object])(a, b)
    return exact.astype(a.dtype)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer division towards 0; by 0 it gives all ones."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient = a // safe
    quotient = quotient + ((a % safe != 0) & ((a < 0) != (b < 0))).astype(a.dtype)
    return np.where(b == 0, ~np.zeros_like(a), quotient)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """With the sign of a."""
    return np.where(b == 0, a, a - divide(a, b) * b)


def extract(x: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`bfe`: `length` bits from `start`; the last of them is the sign of a signed type."""
    rest = np.uint32(8 * x.dtype.itemsize) - np.minimum(length, 8 * x.dtype.itemsize)
    return shift_right(shift_left(shift_right(x, start), rest), rest)


def insert(x: np.ndarray, into: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """`bfi`: replaces `length` bits from `start` by the lowest of x."""
    mask = shift_left(shift_left(np.ones_like(into), length) - into.dtype.type(1), start)
    return (into & ~mask) | (shift_left(x, start) & mask)


def permute(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """`prmt`: each byte is one of the eight of b:a, or copies of its sign."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    result = np.zeros(np.broadcast(a, b, selector).shape, np.uint32)
    for number in range(4):
        choice = (selector >> np.uint32(4 * number)) & np.uint32(15)
        byte = (both >> (8 * (choice & np.uint32(7))).astype(np.uint64)) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
        result |= np.where(choice & np.uint32(8), sign, byte).astype(np.uint32) << np.uint32(8 * number)
    return result


def logic(a: np.ndarray, b: np.ndarray, c: np.ndarray, table: int) -> np.ndarray:
    """`lop3`: bit i of the result is bit 4·a_i + 2·b_i + c_i of the table."""
    result = np.zeros(np.broadcast(a, b, c).shape, np.uint32)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    return result


def leading_zeros(x: np.ndarray) -> np.ndarray:
    """`clz`; frexp's exponent is the number of significant bits of an integer below 2^53."""
    bits = 8 * x.dtype.itemsize
    high = (x >> x.dtype.type(bits // 2)).astype(np.float64)
    low = (x & x.dtype.type(2 ** (bits // 2) - 1)).astype(np.float64)
    used = np.where(high > 0, np.frexp(high)[1] + bits // 2, np.frexp(low)[1])
    return (bits - used).astype(np.uint32)


def to_integer(x: np.ndarray, target: Any, rounding: str) -> np.ndarray:
    """A float to the nearest integer that the type can represent; NaN becomes 0."""
    limits = np.iinfo(target)
    rounded = round_to_integral(np.nan_to_num(x.astype(np.float64), posinf=np.inf, neginf=-np.inf), rounding)
    low, high = float(limits.min), float(limits.max)
    inside = np.where((rounded > low) & (rounded < high), rounded, 0).astype(target)
    return np.where(rounded >= high, target(limits.max), np.where(rounded <= low, target(limits.min), inside))


def round_to_integral(x: np.ndarray, rounding: str) -> np.ndarray:
    """rni: to nearest even; rzi: towards 0; rmi: down; rpi: up."""
    return {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[rounding](x)


def to_tf32(x: np.ndarray, ties_away: bool) -> np.ndarray:
    """The bits of a float32 with 10 bits of mantissa, rounded to nearest."""
    bits = x.view(np.uint32)
    half = np.uint32(0x1000) if ties_away else np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1))
    return np.where(np.isfinite(x), (bits + half) & np.uint32(0xFFFFE000), bits)
