"""`mamba_token_mix`: checks its arguments and chooses an implementation."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping

import jax
from jaxtyping import Array, Float

from m3sr_kernels.checks import check_axes, check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.mamba_token_mix.reference import reference_mamba_token_mix
from m3sr_kernels.mamba_token_mix.xla import xla_mamba_token_mix
from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS as S6

MATRICES = ("in_proj", "conv_kernel", "x_proj", "dt_proj", "a_log", "out_proj")
VECTORS = ("conv_bias", "dt_bias", "d")


def mosaic_mamba_token_mix(tokens: Array, params: Mapping[str, Array], *, call: GpuCall) -> Array:
    """Arguments and result as `mamba_token_mix`; only the scan has a kernel."""
    return reference_mamba_token_mix(tokens, params, scan=functools.partial(S6["pallas_mosaic"], call=call))


IMPLEMENTATIONS = {
    "pallas_triton": imported_on_call("m3sr_kernels.mamba_token_mix.triton", "triton_mamba_token_mix"),
    "pallas_mosaic": mosaic_mamba_token_mix,
    "native": imported_on_call("m3sr_kernels.mamba_token_mix.native", "native_mamba_token_mix"),
    "xla": xla_mamba_token_mix,
    "associative": functools.partial(reference_mamba_token_mix, scan=S6["associative"]),
    "reference": reference_mamba_token_mix,
}


def _check_names(params: Mapping[str, Array]) -> None:
    expected = {*MATRICES, *VECTORS}
    if params.keys() != expected:
        missing, unknown = sorted(expected - params.keys()), sorted(params.keys() - expected)
        raise ValueError(f"mamba_token_mix: params lacks {missing} and has the unknown {unknown}")


def mamba_token_mix(
    tokens: Float[Array, "M L C"],
    params: Mapping[str, Float[Array, ...]],
    *,
    implementation: Implementation | None = None,
    interpret: bool = False,
    precision: str | None = "highest",
) -> Float[Array, "M L C"]:
    """Runs a Mamba-1 block over the L tokens of M independent sequences.

    [u, z] = tokens·in_proj;  u ← SiLU(v), v_t = conv_bias + Σ_j conv_kernel[j]·u_{t−J+1+j}, with zeros before token 0;
    [δ, b, c] = u·x_proj;  dt = δ·dt_proj;  result = s6_scan(u, dt, −exp(a_log), b, c, d, z, dt_bias)·out_proj.

    Args:
      tokens: (M, L, C); in M3SR every pixel is a sequence and L counts the spectral groups.
      params: in_proj (C, 2D), conv_kernel (J, D), conv_bias (D,), x_proj (D, rank+2N), dt_proj (rank, D), dt_bias (D,),
        a_log (D, N), d (D,), out_proj (D, C).
      implementation: see `m3sr_kernels.Implementation`; None takes "pallas_triton" on CUDA GPUs from sm_80 on, "native"
        on a CPU where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.
      interpret: runs a Pallas implementation on any platform, slowly; ignored by the others.
      precision: of the matrix products and their gradients, a name that `jax.default_matmul_precision` takes. By
        default a GPU computes them in float32, as a CPU does; "default" lets it use TF32; None takes the context's.

    Returns:
      (M, L, C) in the dtype of `tokens`, which the projections use too. The scan computes in float32, or in float64 if
      any input is.

    Raises:
      ValueError: a shape does not fit, a parameter is missing or unknown, or so is the implementation or precision.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), figure 3.
    """
    _check_names(params)
    check_axes("mamba_token_mix", tokens=(tokens, 3), **{name: (params[name], 2) for name in MATRICES})
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
    run = choose("mamba_token_mix", IMPLEMENTATIONS, implementation, interpret=interpret)
    with contextlib.nullcontext() if precision is None else jax.default_matmul_precision(precision):
        return run(tokens, dict(params))
