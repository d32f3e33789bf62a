"""Flags for running a command in several processes."""

from __future__ import annotations

import dataclasses

from m3sr_jax import processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """A command that several processes can run together, with the same arguments except for --process-id.

    Attributes:
        coordinator_address: with several processes, HOST:PORT of number 0. A SLURM step of several tasks needs no flag.
        num_processes: number of processes.
        process_id: number of this process, from 0.
        distributed: let JAX detect all three, on Kubernetes, Open MPI and other clusters that it knows.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    distributed: bool = False

    def join(self) -> None:
        """See `m3sr_jax.processes.join`."""
        processes.join(self.coordinator_address, self.num_processes, self.process_id, distributed=self.distributed)
