"""The four-directional SSD scan over an image."""

from m3sr_kernels.ss2d_scan.api import ss2d_scan

__all__ = ["ss2d_scan"]
