"""The state-space-dual scan: one scalar decay a head (Mamba-2)."""

from m3sr_kernels.ssd_scan.api import ssd_scan

__all__ = ["ssd_scan"]
