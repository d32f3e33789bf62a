"""`ss2d_scan`: checks its arguments and picks an implementation."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype, check_shapes
from m3sr_kernels.dispatch import choose
from m3sr_kernels.mosaic_call import implementation_of
from m3sr_kernels.ss2d_scan.by_direction import ss2d_scan_associative, ss2d_scan_reference
from m3sr_kernels.ss2d_scan.pallas_mosaic import ss2d_scan_forward
from m3sr_kernels.ss2d_scan.pallas_triton import ss2d_scan_pallas_triton
from m3sr_kernels.ss2d_scan.xla import ss2d_scan_xla


def _around(run: Callable) -> Callable:
    """Step sizes, wide sums and skips in plain JAX around the bare scan `run`; the GPU kernels fuse them."""

    def ss2d(x, dt, a, b, c, d, dt_bias):
        B, H, W, channels = x.shape
        _, R, P = d.shape
        dtype = accumulation_dtype(x, dt, a, b, c, d, dt_bias)
        wide, dt, a, b, c, d, dt_bias = (array.astype(dtype) for array in (x, dt, a, b, c, d, dt_bias))
        y = run(wide.reshape(B, H, W, R, P), jax.nn.softplus(dt + dt_bias[None, None, None]), a, b, c)
        y = y.reshape(x.shape) + d.sum(0).reshape(1, 1, 1, channels) * wide
        return y.astype(x.dtype)

    return ss2d


_XLA = _around(ss2d_scan_xla)
IMPLEMENTATIONS = {
    "pallas_triton": ss2d_scan_pallas_triton,
    "pallas_mosaic": implementation_of(ss2d_scan_forward, _XLA),
    "xla": _XLA,
    "associative": _around(ss2d_scan_associative),
    "reference": _around(ss2d_scan_reference),
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
    implementation: str | None = None,
    interpret: bool = False,
) -> Float[Array, "B H W RP"]:
    """Four SSD scans over the pixels of an image, summed.

    Direction 0 visits the pixels row by row, 1 column by column, 2 is 0 reversed and 3 is 1 reversed. In direction k,
    with Δ_t = softplus(dt_t[k] + dt_bias[k]), heads r of P channels and one b and c for all heads:

        h_t[r,p,n] = exp(Δ_t[r]·a[k,r])·h_{t−1}[r,p,n] + Δ_t[r]·b_t[k,n]·x_t[r,p],    h_{−1} = 0
        y_t[r,p]   = Σ_n c_t[k,n]·h_t[r,p,n] + d[k,r,p]·x_t[r,p]

    Every array is in pixel order; the order of traversal is the op's affair.

    Args:
      x: (B, H, W, R·P) input.
      dt: (B, H, W, 4, R) step sizes before bias and softplus.
      a: (4, R) negative decay rates.
      b: (B, H, W, 4, N) input maps.
      c: (B, H, W, 4, N) output maps.
      d: (4, R, P) skips.
      dt_bias: (4, R) added to dt.
      implementation: "pallas_triton" (CUDA GPUs from sm_80 on), "pallas_mosaic" (from sm_90 on; forward only, its
        gradient is that of "xla"), "xla", "associative" or "reference"; None takes the first on such a GPU and "xla"
        elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; the others ignore it.

    Returns:
      y: (B, H, W, R·P) in x's dtype. Sums and states are float32, or float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation's name is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the implementation asked for is not available.

    Source: M3SR, the 2-D selective scan of the spatial branch; Liu et al., "VMamba" (2024) for the four directions.
    """
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
