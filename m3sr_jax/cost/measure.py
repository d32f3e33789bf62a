"""Measures a forward pass on this machine: compile time, run time and activation memory."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from m3sr_jax.cost.terms import RGB
from m3sr_jax.models import parameter_shapes


@dataclass(frozen=True)
class Speed:
    """Speed and memory on one RGB image, batch 1.

    Attributes:
        compile_seconds: time to compile for one image size; less with a warm compilation cache.
        seconds: median time of a forward pass.
        activation_bytes: temporary memory that XLA allocates; None if it does not report any.
        device: kind of device.
    """

    compile_seconds: float
    seconds: float
    activation_bytes: int | None
    device: str

    def describe(self) -> str:
        """Returns one line for the terminal."""
        memory = "unknown" if self.activation_bytes is None else f"{self.activation_bytes / 2**20:,.0f} MiB"
        return (
            f"Measured on {self.device}: {self.seconds:.3g} s per image, activation memory {memory}, "
            f"compiled in {self.compile_seconds:.3g} s"
        )


def measure_forward(model: nn.Module, height: int, width: int, repeats: int = 3) -> Speed:
    """Compiles and times the forward pass; all parameters are 0.01, as values do not affect speed.

    Args:
        model: the network.
        height: image height in pixels.
        width: image width in pixels.
        repeats: timed passes, after one untimed pass.
    """
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), parameter_shapes(model))
    image = jnp.full((1, height, width, RGB), 0.5, jnp.float32)
    start = time.perf_counter()
    forward = jax.jit(lambda params, rgb: model.apply({"params": params}, rgb)).lower(params, image).compile()
    compiled = time.perf_counter() - start
    jax.block_until_ready(forward(params, image))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(forward(params, image))
        seconds.append(time.perf_counter() - start)
    memory = forward.memory_analysis()
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    return Speed(compiled, statistics.median(seconds), temporary, jax.devices()[0].device_kind)
