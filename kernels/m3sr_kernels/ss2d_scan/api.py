"""`ss2d_scan`: checks its arguments and chooses an implementation."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype, check_axes, check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.ss2d_scan.reference import reference_ss2d_scan
from m3sr_kernels.ss2d_scan.xla import xla_ss2d_scan
from m3sr_kernels.ssd_scan.associative import associative_ssd_scan


def _around(scan: Callable) -> Callable:
    """Adds bias, softplus and skip to a `scan(x, dt, a, b, c)`, in float32 or float64; GPU kernels fuse them."""

    def run(x, dt, a, b, c, d, dt_bias):
        B, H, W, channels = x.shape
        _, R, P = d.shape
        dtype = accumulation_dtype(x, dt, a, b, c, d, dt_bias)
        wide, dt, a, b, c, d, dt_bias = (array.astype(dtype) for array in (x, dt, a, b, c, d, dt_bias))
        y = scan(wide.reshape(B, H, W, R, P), jax.nn.softplus(dt + dt_bias[None, None, None]), a, b, c)
        y = y.reshape(x.shape) + d.sum(0).reshape(1, 1, 1, channels) * wide
        return y.astype(x.dtype)

    return run


IMPLEMENTATIONS = {
    "pallas_triton": imported_on_call("m3sr_kernels.ss2d_scan.triton", "triton_ss2d_scan"),
    "pallas_mosaic": imported_on_call("m3sr_kernels.ss2d_scan.mosaic", "mosaic_ss2d_scan"),
    "native": imported_on_call("m3sr_kernels.ss2d_scan.native", "native_ss2d_scan"),
    "xla": _around(xla_ss2d_scan),
    "associative": _around(functools.partial(reference_ss2d_scan, ssd=associative_ssd_scan)),
    "reference": _around(reference_ss2d_scan),
}


def ss2d_scan(
    x: Float[Array, "B H W RP"],
    dt: Float[Array, "B H W 4 R"],
    a: Float[Array, "4 R"],
    b: Float[Array, "B H W 4 N"],
    c: Float[Array, "B H W 4 N"],
    d: Float[Array, "4 R P"],
    dt_bias: Float[Array, "4 R"],
    *,
    implementation: Implementation | None = None,
    interpret: bool = False,
) -> Float[Array, "B H W RP"]:
    """Sums four SSD scans over the pixels of an image.

    Direction 0 visits the pixels row by row, 1 column by column, 2 is 0 reversed and 3 is 1 reversed. With t the place
    in the order of direction k, Δ_t = softplus(dt_t[k] + dt_bias[k]), r a head of P channels, and b and c shared by all
    heads:

        h_t[r,p,n] = exp(Δ_t[r]·a[k,r])·h_{t−1}[r,p,n] + Δ_t[r]·b_t[k,n]·x_t[r,p],    h_{−1} = 0
        y_t[r,p]   = Σ_n c_t[k,n]·h_t[r,p,n] + d[k,r,p]·x_t[r,p]

    All arrays are in pixel order; the op handles the orders of traversal.

    Args:
      x: (B, H, W, R·P) input.
      dt: (B, H, W, 4, R) step sizes before bias and softplus.
      a: (4, R) negative decay rates.
      b: (B, H, W, 4, N) input maps.
      c: (B, H, W, 4, N) output maps.
      d: (4, R, P) skips.
      dt_bias: (4, R) added to dt.
      implementation: see `m3sr_kernels.Implementation`; None takes "pallas_triton" on CUDA GPUs from sm_80 on, "native"
        on a CPU where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; ignored by the others.

    Returns:
      y: (B, H, W, R·P) in x's dtype. Sums and states are float32, or float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: M3SR, the 2-D selective scan of the spatial branch; Liu et al., "VMamba" (2024) for the four directions.
    """
    check_axes("ss2d_scan", x=(x, 4), d=(d, 3), b=(b, 5))
    B, H, W, _ = x.shape
    _, R, P = d.shape
    N = b.shape[-1]
    check_shapes(
        "ss2d_scan",
        x=(x, (B, H, W, R * P)),
        dt=(dt, (B, H, W, 4, R)),
        a=(a, (4, R)),
        b=(b, (B, H, W, 4, N)),
        c=(c, (B, H, W, 4, N)),
        d=(d, (4, R, P)),
        dt_bias=(dt_bias, (4, R)),
    )
    run = choose("ss2d_scan", IMPLEMENTATIONS, implementation, interpret=interpret)
    return run(x, dt, a, b, c, d, dt_bias)
