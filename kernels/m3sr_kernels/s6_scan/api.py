"""`s6_scan`: checks its arguments and chooses an implementation."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import accumulation_dtype, check_axes, check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.s6_scan.associative import associative_s6_scan
from m3sr_kernels.s6_scan.reference import reference_s6_scan
from m3sr_kernels.s6_scan.xla import xla_s6_scan


def _around(scan: Callable) -> Callable:
    """Adds bias, softplus, skip and gate to a `scan(x, dt, a, b, c)`, in float32 or float64; GPU kernels fuse them."""

    def run(x, dt, a, b, c, d, z, dt_bias):
        dtype = accumulation_dtype(x, dt, a, b, c, d, z, dt_bias)
        wide, dt, a, b, c = (array.astype(dtype) for array in (x, dt, a, b, c))
        y = scan(wide, step_sizes(dt, dt_bias), a, b, c)
        return with_skip_and_gate(y, wide, d, z).astype(x.dtype)

    return run


def step_sizes(dt: jax.Array, dt_bias: jax.Array | None) -> jax.Array:
    """Δ in dt's dtype."""
    return jax.nn.softplus(dt if dt_bias is None else dt + dt_bias.astype(dt.dtype)[None, None])


def with_skip_and_gate(y: jax.Array, x: jax.Array, d: jax.Array | None, z: jax.Array | None) -> jax.Array:
    """(y + d·x)·SiLU(z) in y's dtype."""
    if d is not None:
        y = y + d.astype(y.dtype)[None, None] * x
    return y if z is None else y * jax.nn.silu(z.astype(y.dtype))


IMPLEMENTATIONS = {
    "pallas_triton": imported_on_call("m3sr_kernels.s6_scan.triton", "triton_s6_scan"),
    "pallas_mosaic": imported_on_call("m3sr_kernels.s6_scan.mosaic", "mosaic_s6_scan"),
    "native": imported_on_call("m3sr_kernels.s6_scan.native", "native_s6_scan"),
    "xla": _around(xla_s6_scan),
    "associative": _around(associative_s6_scan),
    "reference": _around(reference_s6_scan),
}


def s6_scan(
    x: Float[Array, "B L D"],
    dt: Float[Array, "B L D"],
    a: Float[Array, "D N"],
    b: Float[Array, "B L N"],
    c: Float[Array, "B L N"],
    d: Float[Array, " D"] | None = None,
    z: Float[Array, "B L D"] | None = None,
    dt_bias: Float[Array, " D"] | None = None,
    *,
    implementation: Implementation | None = None,
    interpret: bool = False,
) -> Float[Array, "B L D"]:
    """Selective scan with one decay for every channel and state.

    With Δ_t = softplus(dt_t + dt_bias):

        h_t[d,n] = exp(Δ_t[d]·a[d,n])·h_{t−1}[d,n] + Δ_t[d]·b_t[n]·x_t[d],    h_{−1} = 0
        y_t[d]   = (Σ_n c_t[n]·h_t[d,n] + d[d]·x_t[d]) · SiLU(z_t[d])

    Args:
      x: (B, L, D) input; in M3SR every pixel is a sequence and L counts the spectral groups.
      dt: (B, L, D) step sizes before bias and softplus.
      a: (D, N) negative decay rates.
      b: (B, L, N) input map.
      c: (B, L, N) output map.
      d: (D,) skip; None for none.
      z: (B, L, D) gate; None for none.
      dt_bias: (D,) added to dt; None for zero.
      implementation: see `m3sr_kernels.Implementation`; None takes "pallas_triton" on CUDA GPUs from sm_80 on, "native"
        on a CPU where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; ignored by the others.

    Returns:
      y: (B, L, D) in x's dtype. Sums and states are float32, or float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), algorithm 2.
    """
    check_axes("s6_scan", x=(x, 3), a=(a, 2))
    B, L, D = x.shape
    N = a.shape[-1]
    check_shapes(
        "s6_scan",
        dt=(dt, (B, L, D)),
        x=(x, (B, L, D)),
        a=(a, (D, N)),
        b=(b, (B, L, N)),
        c=(c, (B, L, N)),
        d=(d, (D,)),
        z=(z, (B, L, D)),
        dt_bias=(dt_bias, (D,)),
    )
    run = choose("s6_scan", IMPLEMENTATIONS, implementation, interpret=interpret)
    return run(x, dt, a, b, c, d, z, dt_bias)
