"""`depthwise_conv_silu`: checks its arguments and chooses an implementation."""

from __future__ import annotations

from jaxtyping import Array, Float

from m3sr_kernels.checks import check_axes, check_shapes
from m3sr_kernels.depthwise_conv_silu.reference import reference_depthwise_conv_silu
from m3sr_kernels.depthwise_conv_silu.xla import xla_depthwise_conv_silu
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call

IMPLEMENTATIONS = {
    "native": imported_on_call("m3sr_kernels.depthwise_conv_silu.native", "native_depthwise_conv_silu"),
    "xla": xla_depthwise_conv_silu,
    "reference": reference_depthwise_conv_silu,
}


def depthwise_conv_silu(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C"], *, implementation: Implementation | None = None
) -> Float[Array, "B H W C"]:
    """Convolves each channel with its own 3×3 kernel and applies SiLU.

    result[i, j] = SiLU(Σ_{k,l} x[i+k−1, j+l−1]·kernel[k, l]), with zeros around the image.

    Args:
      x: (B, H, W, C) images.
      kernel: (3, 3, C); the first two axes are the row and column offsets −1, 0, 1.
      implementation: "native", "xla" or "reference", see `m3sr_kernels.Implementation`; None takes "native" on a CPU
        where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.

    Returns:
      (B, H, W, C) in x's dtype, in which "xla" computes too; "native" computes in float32.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: M3SR, the convolution before the 2-D selective scan.
    """
    check_axes("depthwise_conv_silu", x=(x, 4))
    channels = x.shape[-1]
    check_shapes("depthwise_conv_silu", x=(x, (*x.shape[:3], channels)), kernel=(kernel, (3, 3, channels)))
    return choose("depthwise_conv_silu", IMPLEMENTATIONS, implementation)(x, kernel)
