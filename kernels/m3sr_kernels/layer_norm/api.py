"""`layer_norm`: checks its arguments and chooses an implementation."""

from __future__ import annotations

import functools

from jaxtyping import Array, Float

from m3sr_kernels.checks import check_shapes
from m3sr_kernels.dispatch import Implementation, choose, imported_on_call
from m3sr_kernels.layer_norm.reference import reference_layer_norm

IMPLEMENTATIONS = {
    "native": imported_on_call("m3sr_kernels.layer_norm.native", "native_layer_norm"),
    "xla": reference_layer_norm,
    "reference": reference_layer_norm,
}


def layer_norm(
    x: Float[Array, "*shape C"],
    scale: Float[Array, " C"],
    bias: Float[Array, " C"],
    *,
    epsilon: float = 1e-5,
    implementation: Implementation | None = None,
) -> Float[Array, "*shape C"]:
    """Computes (x − mean)/√(variance + ε)·scale + bias with mean and biased variance over the last axis.

    Args:
      x: (…, C).
      scale: (C,).
      bias: (C,).
      epsilon: ε.
      implementation: "native", "xla" or "reference", see `m3sr_kernels.Implementation`; None takes "native" on a CPU
        where its kernels take the arguments and "xla" elsewhere, decided when the program is compiled.

    Returns:
      (…, C) in x's dtype; computed in float32, or in float64 if any input is.

    Raises:
      ValueError: a shape does not fit, or the implementation is unknown.
      TypeError: an input is not floating-point.
      NotImplementedError: the op has no such implementation, or the platform compiled for cannot run it.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016).
    """
    channels = x.shape[-1]
    check_shapes("layer_norm", x=(x, x.shape), scale=(scale, (channels,)), bias=(bias, (channels,)))
    fields = {"epsilon": float(epsilon)}
    functions = {name: functools.partial(function, **fields) for name, function in IMPLEMENTATIONS.items()}
    return choose("layer_norm", functions, implementation)(x, scale, bias)
