"""What can go wrong before a kernel runs."""

from __future__ import annotations


class PtxError(ValueError):
    """Text that is not PTX, or lacks what was asked for."""


class UnsupportedError(NotImplementedError):
    """Valid PTX that this interpreter does not execute."""
