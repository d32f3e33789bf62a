"""Layer norm over the last axis, with a scale and a shift for each channel."""

from m3sr_kernels.layer_norm.api import layer_norm

__all__ = ["layer_norm"]
