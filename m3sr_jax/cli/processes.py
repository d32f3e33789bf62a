"""The flags by which several processes of one command find each other."""

from __future__ import annotations

import dataclasses

from m3sr_jax import processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """A command that several processes can run together; each is given the same arguments but for its number.

    Attributes:
        coordinator_address: of several processes, HOST:PORT of number 0. A SLURM step of several tasks needs no flag.
        num_processes: how many there are.
        process_id: which one this is, from 0.
        distributed: have all three found out, on Kubernetes, Open MPI and what else JAX knows.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    distributed: bool = False

    def join(self) -> None:
        """See `m3sr_jax.processes.join`."""
        processes.join(self.coordinator_address, self.num_processes, self.process_id, distributed=self.distributed)
