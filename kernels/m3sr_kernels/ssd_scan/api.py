"""`ssd_scan`: checks its arguments and picks an implementation."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype, check_shapes
from m3sr_kernels.dispatch import choose
from m3sr_kernels.mosaic_call import implementation_of
from m3sr_kernels.ssd_scan.associative import ssd_scan_associative
from m3sr_kernels.ssd_scan.pallas_mosaic import ssd_scan_forward
from m3sr_kernels.ssd_scan.pallas_triton import ssd_scan_pallas_triton
from m3sr_kernels.ssd_scan.reference import ssd_scan_reference
from m3sr_kernels.ssd_scan.xla import ssd_scan_xla


def _around(run: Callable) -> Callable:
    """Step sizes, wide sums and skips in plain JAX around the bare scan `run`; the GPU kernels fuse them."""

    def ssd(x, dt, a, b, c, d, dt_bias):
        dtype = accumulation_dtype(x, dt, a, b, c, d, dt_bias)
        wide, dt, a, b, c = (array.astype(dtype) for array in (x, dt, a, b, c))
        if dt_bias is not None:
            dt = dt + dt_bias.astype(dtype)[None, None]
        y, state = run(wide, jax.nn.softplus(dt), a, b, c)
        if d is not None:
            y = y + d.astype(dtype)[None, None] * wide
        return y.astype(x.dtype), state

    return ssd


_XLA = _around(ssd_scan_xla)
IMPLEMENTATIONS = {
    "pallas_triton": ssd_scan_pallas_triton,
    "pallas_mosaic": implementation_of(ssd_scan_forward, _XLA),
    "xla": _XLA,
    "associative": _around(ssd_scan_associative),
    "reference": _around(ssd_scan_reference),
}


def ssd_scan(
    x: Float[Array, "B L H P"],
    dt: Float[Array, "B L H"],
    a: Float[Array, " H"],
    b: Float[Array, "B L G N"],
    c: Float[Array, "B L G N"],
    d: Float[Array, "H P"] | None = None,
    dt_bias: Float[Array, " H"] | None = None,
    *,
    implementation: str | None = None,
    interpret: bool = False,
    return_final_state: bool = False,
) -> Float[Array, "B L H P"] | tuple[Float[Array, "B L H P"], Float[Array, "B H P N"]]:
    """Selective scan with one scalar decay a head.

    With Δ_t = softplus(dt_t + dt_bias) and g the group of head h (H/G heads share b and c):

        h_t[p,n] = exp(Δ_t·a)·h_{t−1}[p,n] + Δ_t·b_t[g,n]·x_t[p],    h_{−1} = 0
        y_t[p]   = Σ_n c_t[g,n]·h_t[p,n] + d[p]·x_t[p]

    Args:
      x: (B, L, H, P) input.
      dt: (B, L, H) step sizes before bias and softplus.
      a: (H,) negative decay rates.
      b: (B, L, G, N) input maps; H is divisible by G.
      c: (B, L, G, N) output maps.
      d: (H, P) skip, none if None.
      dt_bias: (H,) added to dt, zero if None.
      implementation: "pallas_triton" (CUDA GPUs from sm_80 on), "pallas_mosaic" (from sm_90 on; forward only, its
        gradient is that of "xla"), "xla", "associative" or "reference"; None takes the first on such a GPU and "xla"
        elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; the others ignore it.
      return_final_state: also return the last state, (B, H, P, N), in the accumulation dtype.

    Returns:
      y: (B, L, H, P) in x's dtype. Sums and states are float32, or float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation's name is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the implementation asked for is not available.

    Source: Dao and Gu, "Transformers are SSMs" (2024), the SSD model.
    """
    B, L, H, P = x.shape
    G, N = b.shape[-2:]
    if H % G:
        raise ValueError(f"ssd_scan: {H} heads cannot share {G} groups of b and c; H must be a multiple of G")
    check_shapes(
        "ssd_scan",
        x=(x, (B, L, H, P)),
        dt=(dt, (B, L, H)),
        a=(a, (H,)),
        b=(b, (B, L, G, N)),
        c=(c, (B, L, G, N)),
        d=(d, (H, P)),
        dt_bias=(dt_bias, (H,)),
    )
    run = choose("ssd_scan", IMPLEMENTATIONS, implementation, interpret=interpret)
    y, state = run(x, dt, a, b, c, d, dt_bias)
    return (y, state) if return_final_state else y
