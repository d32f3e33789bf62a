"""Data parallel training: all devices of all processes, each with an equal part of every batch."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from m3sr_jax.errors import InputError

BATCH_AXIS = "batch"


class Devices:
    """Where a run computes. State is the same on every device; a batch is cut along its first axis.

    One device alone is left to JAX's defaults: `mesh` is None, and arrays are passed on as they are.
    """

    def __init__(self, batch_size: int, accumulate_steps: int = 1) -> None:
        """Takes every device that JAX sees.

        Args:
            batch_size: examples of a batch over all devices.
            accumulate_steps: parts one after the other that each device cuts its share into.

        Raises:
            InputError: the batch cannot be cut into equal parts.
        """
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        parts = len(devices) * accumulate_steps
        if batch_size % parts:
            told = f"{len(devices)} devices × optim.accumulate_steps {accumulate_steps}"
            raise InputError(
                f"config field data.batch_size: found {batch_size}, expected a multiple of {parts} ({told}); change "
                "one of them, or show JAX fewer devices (CUDA_VISIBLE_DEVICES)"
            )
        if len(devices) != jax.process_count() * jax.local_device_count():
            raise InputError(
                f"process {jax.process_index()} has {jax.local_device_count()} of {len(devices)} devices; expected as "
                f"many in each of {jax.process_count()} processes"
            )
        self.mesh = Mesh(np.array(devices), (BATCH_AXIS,)) if len(devices) > 1 else None

    def replicate(self, tree: Any) -> Any:
        """Puts arrays, of equal values in all processes, on every device."""
        if self.mesh is None:
            return tree
        everywhere = NamedSharding(self.mesh, P())
        return jax.tree.map(lambda leaf: _place(np.asarray(leaf), everywhere), tree)

    def share(self, batch: dict[str, np.ndarray], *, stop: bool = False) -> dict[str, Any]:
        """Puts this process's part of a batch on its devices.

        Args:
            batch: (batch size / processes, …) each.
            stop: this process was asked to stop; the step tells all of them (see `jit_train_step`).
        """
        if self.mesh is None:
            return batch
        asked = np.full(jax.local_device_count(), stop, np.int32)
        cut = NamedSharding(self.mesh, P(BATCH_AXIS))
        return {key: _place(value, cut) for key, value in {**batch, "stop": asked}.items()}

    def local(self, tree: Any) -> Any:
        """Returns replicated arrays as they lie on one device of this process, which may then compute by itself."""
        return tree if self.mesh is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def describe(self) -> str:
        """Names device and count: '8 × gpu (NVIDIA H200) in 2 processes'."""
        device, count = jax.devices()[0], jax.device_count()
        several = f"{count} × " if count > 1 else ""
        processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
        return f"{several}{device.platform} ({device.device_kind}){processes}"


def _place(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_process_local_data(sharding, value)
