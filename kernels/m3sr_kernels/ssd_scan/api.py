"""`ssd_scan`: checks its arguments and chooses an implementation."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype, check_axes, check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.ssd_scan.associative import associative_ssd_scan
from m3sr_kernels.ssd_scan.reference import reference_ssd_scan
from m3sr_kernels.ssd_scan.xla import xla_ssd_scan


def _around(scan: Callable) -> Callable:
    """Adds bias, softplus and skip to a `scan(x, dt, a, b, c)`, in float32 or float64; GPU kernels fuse them."""

    def run(x, dt, a, b, c, d, dt_bias):
        dtype = accumulation_dtype(x, dt, a, b, c, d, dt_bias)
        wide, dt, a, b, c = (array.astype(dtype) for array in (x, dt, a, b, c))
        if dt_bias is not None:
            dt = dt + dt_bias.astype(dtype)[None, None]
        y, state = scan(wide, jax.nn.softplus(dt), a, b, c)
        if d is not None:
            y = y + d.astype(dtype)[None, None] * wide
        return y.astype(x.dtype), state

    return run


IMPLEMENTATIONS = {
    "pallas_triton": imported_on_call("m3sr_kernels.ssd_scan.triton", "triton_ssd_scan"),
    "pallas_mosaic": imported_on_call("m3sr_kernels.ssd_scan.mosaic", "mosaic_ssd_scan"),
    "native": imported_on_call("m3sr_kernels.ssd_scan.native", "native_ssd_scan"),
    "xla": _around(xla_ssd_scan),
    "associative": _around(associative_ssd_scan),
    "reference": _around(reference_ssd_scan),
}


def ssd_scan(
    x: Float[Array, "B L R P"],
    dt: Float[Array, "B L R"],
    a: Float[Array, " R"],
    b: Float[Array, "B L G N"],
    c: Float[Array, "B L G N"],
    d: Float[Array, "R P"] | None = None,
    dt_bias: Float[Array, " R"] | None = None,
    *,
    implementation: Implementation | None = None,
    interpret: bool = False,
    return_final_state: bool = False,
) -> Float[Array, "B L R P"] | tuple[Float[Array, "B L R P"], Float[Array, "B R P N"]]:
    """Selective scan with one scalar decay a head.

    With Δ_t = softplus(dt_t + dt_bias) and g the group of head r (R/G heads share b and c):

        h_t[r,p,n] = exp(Δ_t[r]·a[r])·h_{t−1}[r,p,n] + Δ_t[r]·b_t[g,n]·x_t[r,p],    h_{−1} = 0
        y_t[r,p]   = Σ_n c_t[g,n]·h_t[r,p,n] + d[r,p]·x_t[r,p]

    Args:
      x: (B, L, R, P) input.
      dt: (B, L, R) step sizes before bias and softplus.
      a: (R,) negative decay rates.
      b: (B, L, G, N) input maps; R is divisible by G.
      c: (B, L, G, N) output maps.
      d: (R, P) skip; None for none.
      dt_bias: (R,) added to dt; None for zero.
      implementation: see `m3sr_kernels.Implementation`; None takes "pallas_triton" on CUDA GPUs from sm_80 on, "native"
        on a CPU where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; ignored by the others.
      return_final_state: also returns the last state, (B, R, P, N), in the dtype of the sums.

    Returns:
      y: (B, L, R, P) in x's dtype. Sums and states are float32, or float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: Dao and Gu, "Transformers are SSMs" (2024), the SSD model.
    """
    check_axes("ssd_scan", x=(x, 4), b=(b, 4))
    B, L, R, P = x.shape
    G, N = b.shape[-2:]
    if not G or R % G:
        raise ValueError(f"ssd_scan: {R} heads cannot share {G} groups of b and c; R must be a multiple of G")
    check_shapes(
        "ssd_scan",
        x=(x, (B, L, R, P)),
        dt=(dt, (B, L, R)),
        a=(a, (R,)),
        b=(b, (B, L, G, N)),
        c=(c, (B, L, G, N)),
        d=(d, (R, P)),
        dt_bias=(dt_bias, (R,)),
    )
    run = choose("ssd_scan", IMPLEMENTATIONS, implementation, interpret=interpret)
    y, state = run(x, dt, a, b, c, d, dt_bias)
    return (y, state) if return_final_state else y
