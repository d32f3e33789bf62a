"""`group_norm_silu`: checks its arguments and chooses an implementation."""

from __future__ import annotations

import functools

from jaxtyping import Array, Float

from m3sr_kernels.checks import check_axes, check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.group_norm_silu.reference import reference_group_norm_silu

IMPLEMENTATIONS = {
    "native": imported_on_call("m3sr_kernels.group_norm_silu.native", "native_group_norm_silu"),
    "xla": reference_group_norm_silu,
    "reference": reference_group_norm_silu,
}


def group_norm_silu(
    x: Float[Array, "B H W C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    shortcut: Float[Array, "B H W C"],
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    implementation: Implementation | None = None,
) -> Float[Array, "B H W C"]:
    """Computes SiLU((x − mean)/√(variance + ε)·scale + bias) + shortcut.

    Mean and biased variance are those of each image over H, W and the C/G neighbouring channels of a group.

    Args:
      x: (B, H, W, C).
      scale: (C,).
      bias: (C,).
      shortcut: (B, H, W, C).
      num_groups: G, which divides C.
      epsilon: ε.
      implementation: "native", "xla" or "reference", see `m3sr_kernels.Implementation`; None takes "native" on a CPU
        where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.

    Returns:
      (B, H, W, C) in x's dtype; computed in float32, or in float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: M3SR, the spectral branch; Wu and He, "Group Normalization" (2018).
    """
    check_axes("group_norm_silu", x=(x, 4))
    channels = x.shape[-1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"group_norm_silu: {num_groups} groups cannot share {channels} channels")
    by_channel = {name: (array, (channels,)) for name, array in (("scale", scale), ("bias", bias))}
    check_shapes("group_norm_silu", x=(x, x.shape), shortcut=(shortcut, x.shape), **by_channel)
    fields = {"num_groups": num_groups, "epsilon": float(epsilon)}
    functions = {name: functools.partial(function, **fields) for name, function in IMPLEMENTATIONS.items()}
    return choose("group_norm_silu", functions, implementation)(x, scale, bias, shortcut)
