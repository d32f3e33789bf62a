"""A depthwise 3×3 convolution of an image, then SiLU."""

from m3sr_kernels.depthwise_conv_silu.api import depthwise_conv_silu

__all__ = ["depthwise_conv_silu"]
