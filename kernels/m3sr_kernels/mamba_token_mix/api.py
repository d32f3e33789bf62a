"""`mamba_token_mix`: checks its arguments and picks an implementation."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from jaxtyping import Array, Float

from m3sr_kernels.checks import check_shapes
from m3sr_kernels.dispatch import choose
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.mamba_token_mix.composed import mamba_token_mix_composed
from m3sr_kernels.mamba_token_mix.pallas_triton import mamba_token_mix_triton
from m3sr_kernels.mamba_token_mix.xla import mamba_token_mix_xla
from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS as S6


def _composed_mosaic(tokens: Array, params: dict[str, Array], *, call: GpuCall) -> Array:
    return mamba_token_mix_composed(tokens, params, scan=functools.partial(S6["pallas_mosaic"], call=call))


IMPLEMENTATIONS = {
    "pallas_triton": mamba_token_mix_triton,
    "pallas_mosaic": _composed_mosaic,
    "xla": mamba_token_mix_xla,
    "associative": functools.partial(mamba_token_mix_composed, scan=S6["associative"]),
    "reference": functools.partial(mamba_token_mix_composed, scan=S6["reference"]),
}


def mamba_token_mix(
    tokens: Float[Array, "M L C"],
    params: Mapping[str, Float[Array, ...]],
    *,
    implementation: str | None = None,
    interpret: bool = False,
) -> Float[Array, "M L C"]:
    """Runs a Mamba-1 block over the L tokens of M independent sequences.

    [u, z] = tokens·in_proj;  u ← SiLU(v), v_t = conv_bias + Σ_j conv_kernel[j]·u_{t−J+1+j} with zeros before token 0;
    [δ, b, c] = u·x_proj;  dt = δ·dt_proj;  result = s6_scan(u, dt, −exp(a_log), b, c, d, z, dt_bias)·out_proj.

    Args:
      tokens: (M, L, C); in M3SR one sequence of L spectral groups a pixel.
      params: in_proj (C, 2D), conv_kernel (J, D), conv_bias (D,), x_proj (D, R+2N), dt_proj (R, D), dt_bias (D,), a_log
        (D, N), d (D,), out_proj (D, C).
      implementation: "pallas_triton" (CUDA GPUs from sm_80 on), "pallas_mosaic" (from sm_90 on, the scan alone),
        "xla", "associative" or "reference"; None takes the first on such a GPU and "xla" elsewhere, decided when the
        program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; the others ignore it.

    Returns:
      (M, L, C), in the dtype of `tokens`, in which the projections compute too; the scan computes in float32, or
      float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation's name is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the implementation asked for is not there, or (when it is compiled) not for this platform.

    Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), figure 3.
    """
    M, L, C = tokens.shape
    D, N = params["a_log"].shape
    rank = params["dt_proj"].shape[0]
    taps = params["conv_kernel"].shape[0]
    shapes = {
        "in_proj": (C, 2 * D),
        "conv_kernel": (taps, D),
        "conv_bias": (D,),
        "x_proj": (D, rank + 2 * N),
        "dt_proj": (rank, D),
        "dt_bias": (D,),
        "a_log": (D, N),
        "d": (D,),
        "out_proj": (D, C),
    }
    check_shapes(
        "mamba_token_mix", tokens=(tokens, (M, L, C)), **{name: (params[name], shape) for name, shape in shapes.items()}
    )
    return choose("mamba_token_mix", IMPLEMENTATIONS, implementation, interpret=interpret)(tokens, dict(params))
