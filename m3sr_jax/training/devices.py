"""Data-parallel training: all devices of all processes, each with an equal shard of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from m3sr_jax.errors import InputError, one_line, short_of_memory

BATCH_AXIS = "batch"


class Devices:
    """The devices of a run. State is replicated; batches are sharded along their first axis.

    A single device is left to JAX's defaults: `mesh` is None, and arrays are passed on as they are.
    """

    def __init__(self, batch_size: int, accumulate_steps: int = 1) -> None:
        """Takes every device that JAX sees.

        Args:
            batch_size: examples of a batch over all devices.
            accumulate_steps: number of parts that each device computes one after the other.

        Raises:
            InputError: the batch does not divide into equal parts.
        """
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        parts = len(devices) * accumulate_steps
        if batch_size % parts:
            factors = f"{len(devices)} devices × optim.accumulate_steps {accumulate_steps}"
            raise InputError(
                f"config field data.batch_size: found {batch_size}, expected a multiple of {parts} ({factors}); change "
                "one of them, or show JAX fewer devices (CUDA_VISIBLE_DEVICES)"
            )
        if len(devices) != jax.process_count() * jax.local_device_count():
            raise InputError(
                f"process {jax.process_index()}: found {jax.local_device_count()} of {len(devices)} devices, expected "
                f"an equal number in each of {jax.process_count()} processes"
            )
        self.mesh = Mesh(np.array(devices), (BATCH_AXIS,)) if len(devices) > 1 else None

    def replicate(self, tree: Any) -> Any:
        """Puts arrays, equal in all processes, on every device."""
        if self.mesh is None:
            return tree
        everywhere = NamedSharding(self.mesh, P())
        return jax.tree.map(lambda leaf: _place(np.asarray(leaf), everywhere), tree)

    def shard(self, batch: dict[str, np.ndarray], *, stop: bool = False) -> dict[str, Any]:
        """Puts this process's part of a batch on its devices.

        Args:
            batch: (batch size / processes, …) each.
            stop: whether this process was asked to stop; the step tells all processes (see `jit_train_step`).
        """
        if self.mesh is None:
            return batch
        requested = np.full(jax.local_device_count(), stop, np.int32)
        sharded = NamedSharding(self.mesh, P(BATCH_AXIS))
        return {key: _place(value, sharded) for key, value in {**batch, "stop": requested}.items()}

    def local(self, tree: Any) -> Any:
        """Returns the copy of replicated arrays on one device of this process, which can then compute alone."""
        return tree if self.mesh is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def describe(self) -> str:
        """Names device and count: '8 × gpu (NVIDIA H200) in 2 processes'."""
        device, count = jax.devices()[0], jax.device_count()
        several = f"{count} × " if count > 1 else ""
        processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
        return f"{several}{device.platform} ({device.device_kind}){processes}"


@contextmanager
def memory_errors_as_input_errors(work: str, advice: str) -> Iterator[None]:
    """Turns too little memory, of a device or of the host, into an InputError that says what needs less."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not short_of_memory(error):
            raise
        raise InputError(f"{work}: too little memory ({one_line(error, 200)}); {advice}") from error


def _place(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_process_local_data(sharding, value)
