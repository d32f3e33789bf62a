"""The precision of a network's matrix products and convolutions, forward and in the gradient."""

from __future__ import annotations

from m3sr_jax.config.names import MatmulPrecision

# What XLA makes of "default" depends on the device: TF32 on a GPU from sm_80 on, float32 on a CPU.
_JAX_NAMES = {"float32": "highest", "tf32": "default"}


def jax_precision(name: MatmulPrecision) -> str:
    """Returns JAX's name of a precision, as `jax.default_matmul_precision` and `precision=` take it.

    Raises:
      ValueError: there is no such precision.
    """
    if name not in _JAX_NAMES:
        raise ValueError(f"matmul_precision: found {name}, expected {' or '.join(_JAX_NAMES)}")
    return _JAX_NAMES[name]
