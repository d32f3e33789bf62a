"""The S6 selective scan of Mamba-1: a full (D, N) decay matrix, many short sequences."""

from m3sr_kernels.s6_scan.api import s6_scan

__all__ = ["s6_scan"]
