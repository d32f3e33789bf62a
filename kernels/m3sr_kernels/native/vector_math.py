"""Exponentials of vectors, within two units in the last place; NaN and infinity spread as in the definitions.

Source: the exponent is split off by adding 1.5·2²³, which rounds to an integer; what remains is a polynomial fitted by
weighted least squares at Chebyshev nodes (Lawson's iteration), which is near minimax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import llvmlite.ir as ir
import numpy as np

from m3sr_kernels.native.assembler import Code, Value

ROUNDING = 12582912.0 + 127  # 1.5·2²³, and the exponent's bias
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
LN_2_HIGH = float(np.float32(0.693359375))  # nine bits: products with whole exponents are exact
LN_2_LOW = LN_2 - LN_2_HIGH


def _fit(function: Callable, low: float, high: float, terms: int, *, constant: float) -> list[float]:
    """Coefficients, highest power first and `constant` last, of the smallest relative error on an interval."""
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    values = function(nodes)
    powers, wanted = np.vander(nodes, terms)[:, :-1] / values[:, None], 1 - constant / values
    weights, coefficients = np.ones(len(nodes)), np.zeros(terms - 1)
    for _ in range(100):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(powers * root[:, None], root * wanted, rcond=None)[0]
        error = np.abs(powers @ coefficients - wanted)
        weights = weights * (error / error.max() + 1e-3)
        weights /= weights.sum()
    return [*(float(value) for value in coefficients), constant]


@functools.cache
def _exp_terms() -> list[float]:
    return _fit(np.exp, -LN_2 / 2, LN_2 / 2, 7, constant=1.0)


@functools.cache
def _exp2_terms() -> list[float]:
    return _fit(np.exp2, -0.5, 0.5, 7, constant=1.0)


@functools.cache
def _log1p_terms() -> list[float]:
    """Of 2·artanh(s)/s in s², s = e/(2+e) up to 1/3."""
    return _fit(lambda q: 2 * np.arctanh(np.sqrt(q)) / np.sqrt(q), 1e-12, 1 / 9, 6, constant=2.0)


def _polynomial(k: Code, x: Value, coefficients: list[float]) -> Value:
    total = k.vec(coefficients[0])
    for coefficient in coefficients[1:]:
        total = k.fma(total, x, k.vec(coefficient))
    return total


def _scale(k: Code, rounded: Value) -> Value:
    """Two to the integer in the last bits of a rounded sum; 0 for −127, infinity for 128."""
    return k.from_bits(k.builder.shl(k.as_bits(rounded), ir.Constant(k.int_vector, [23] * k.lanes)))


def exp2(k: Code, x: Value) -> Value:
    """Gives 2^x: 0 below −126.5, infinity from 127.5 on, NaN of NaN."""
    x = k.minimum(k.maximum(x, -127.0), 128.0)
    rounded = x + ROUNDING
    return _polynomial(k, x - (rounded - ROUNDING), _exp2_terms()) * _scale(k, rounded)


def exp(k: Code, x: Value) -> Value:
    """Gives e^x, accurate for large arguments too."""
    x = k.minimum(k.maximum(x, -127.0 * LN_2), 128.0 * LN_2)
    rounded = k.fma(x, LOG2_E, k.vec(ROUNDING))
    whole = rounded - ROUNDING
    rest = k.fma(whole, -LN_2_LOW, k.fma(whole, -LN_2_HIGH, x))
    return _polynomial(k, rest, _exp_terms()) * _scale(k, rounded)


def sigmoid(k: Code, x: Value) -> Value:
    """Gives 1/(1 + e^−x)."""
    return k.vec(1.0) / (exp(k, k.vec(-0.0) - x) + 1.0)


def silu(k: Code, x: Value) -> Value:
    """Gives x·sigmoid(x)."""
    return x * sigmoid(k, x)


def softplus(k: Code, x: Value) -> Value:
    """Gives max(x, 0) + log(1 + e^−|x|)."""
    negated = k.builder.or_(k.as_bits(x), ir.Constant(k.int_vector, [-(2**31)] * k.lanes))
    e = exp(k, k.from_bits(negated))
    s = e / (e + 2.0)
    return k.fma(s, _polynomial(k, s * s, _log1p_terms()), k.maximum(x, 0.0))


def silu_and_slope(k: Code, x: Value) -> tuple[Value, Value]:
    """SiLU and its derivative σ·(1 + x·(1 − σ))."""
    gate = sigmoid(k, x)
    return x * gate, gate * k.fma(x, k.vec(1.0) - gate, k.vec(1.0))
