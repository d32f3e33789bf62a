"""The block by Triton: XLA's matrix products, and kernels for everything between them.

One kernel does convolution and SiLU, another one the last projection of dt, its bias and softplus, the scan, the skip
and the gate. It reads b, c and the low-rank dt where the projection `x_proj` left them; dt itself is never in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.mamba_token_mix.reference import reference_mamba_token_mix
from m3sr_kernels.mamba_token_mix.triton_causal_conv import causal_conv_silu
from m3sr_kernels.precision import current
from m3sr_kernels.s6_scan import triton as s6

Arrays = dict[str, jax.Array]


@functools.partial(jax.jit, static_argnames="call")
def triton_mamba_token_mix(tokens: jax.Array, params: Mapping[str, jax.Array], *, call: GpuCall) -> jax.Array:
    """Arguments and result as `mamba_token_mix`.

    The gradient keeps the inputs and the first projection, and recomputes the rest.
    """
    if tokens.shape[1] > s6.MAX_TOKENS:
        scan = functools.partial(s6.triton_s6_scan, call=call)
        return reference_mamba_token_mix(tokens, params, scan=scan)
    return _mix(call, tokens, dict(params))


@functools.partial(jax.checkpoint, static_argnums=0, policy=jax.checkpoint_policies.save_only_these_names("mamba_uz"))
def _mix(call: GpuCall, tokens: jax.Array, params: Arrays) -> jax.Array:
    narrow = {name: value.astype(tokens.dtype) for name, value in params.items()}
    # Two products, because splitting one would copy.
    x, z = (checkpoint_name(tokens @ weight, "mamba_uz") for weight in jnp.split(narrow["in_proj"], 2, axis=1))
    x = causal_conv_silu(call, x, narrow["conv_kernel"], narrow["conv_bias"])
    arrays = {"x": x, "z": z, "projected": x @ narrow["x_proj"], "a": -jnp.exp(params["a_log"])}
    arrays |= {"dt_proj": narrow["dt_proj"], "out_proj": narrow["out_proj"]}
    return _scan_and_project(call, current(), arrays | {"d": params["d"], "dt_bias": params["dt_bias"]})


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_and_project(call: GpuCall, precision: str | None, arrays: Arrays) -> jax.Array:
    """The scan and `out_proj` together: the gradient of the scan recomputes y, which that of `out_proj` needs."""
    y = s6.forward(call, *_scan_arguments(arrays))["y"]
    with jax.default_matmul_precision(precision):
        return y @ arrays["out_proj"]


def _scan_arguments(arrays: Arrays) -> tuple[s6.Layout, Arrays]:
    rank, N = arrays["dt_proj"].shape[0], arrays["a"].shape[1]
    projected = arrays["projected"]
    layout = s6.Layout(rank=rank, delta=0, b=rank, c=rank + N)
    kept = {name: value for name, value in arrays.items() if name not in ("projected", "out_proj")}
    return layout, kept | {"delta": projected, "b": projected, "c": projected}


def _scan_and_project_fwd(call: GpuCall, precision: str | None, arrays: Arrays):
    return _scan_and_project(call, precision, arrays), arrays


def _scan_and_project_bwd(call: GpuCall, precision: str | None, arrays: Arrays, cotangent: jax.Array):
    with jax.default_matmul_precision(precision):
        return (_gradients(call, arrays, cotangent),)


def _gradients(call: GpuCall, arrays: Arrays, cotangent: jax.Array) -> Arrays:
    layout, scan_arrays = _scan_arguments(arrays)
    gradients = s6.backward(call, layout, scan_arrays, {"y": cotangent @ arrays["out_proj"].T})
    ddt, y = gradients.pop("dt"), gradients.pop("y")
    delta, dtype = arrays["projected"][..., : layout.rank], arrays["projected"].dtype
    of_projected = (ddt @ arrays["dt_proj"].T, gradients.pop("b").astype(dtype), gradients.pop("c").astype(dtype))
    gradients |= {
        "projected": jnp.concatenate(of_projected, axis=-1),
        "dt_proj": jnp.einsum("mlr,mld->rd", delta, ddt),
        "out_proj": jnp.einsum("mld,mlc->dc", y, cotangent),
    }
    return {name: gradients[name].astype(arrays[name].dtype) for name in arrays}


_scan_and_project.defvjp(_scan_and_project_fwd, _scan_and_project_bwd)
