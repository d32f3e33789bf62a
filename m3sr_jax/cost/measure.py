"""What a forward pass takes on this machine: compilation, time, memory of activations."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from m3sr_jax.cost.count import RGB, abstract_params


@dataclass(frozen=True)
class Speed:
    """Measured on one RGB image, batch 1.

    Attributes:
        compile_seconds: once for each size of image; less where a compilation cache has it.
        seconds: median of a forward pass.
        activation_bytes: what XLA sets aside for everything between input and output, None where it does not tell.
        device: kind of device.
    """

    compile_seconds: float
    seconds: float
    activation_bytes: int | None
    device: str

    def describe(self) -> str:
        """One line for the terminal."""
        memory = "unknown" if self.activation_bytes is None else f"{self.activation_bytes / 2**20:,.0f} MiB"
        return (
            f"Measured on {self.device}: {self.seconds:.3g} s an image, activation memory {memory}, "
            f"compiled in {self.compile_seconds:.3g} s"
        )


def measure_forward(model: nn.Module, height: int, width: int, repeats: int = 3) -> Speed:
    """Compiles and runs the forward pass with parameters of 0.01: values do not change what it takes.

    Args:
        model: the network.
        height: image height in pixels.
        width: image width in pixels.
        repeats: timed passes, after one that is not.
    """
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), abstract_params(model))
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
