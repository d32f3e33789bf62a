"""The losses of a small M3SR over 20 steps, printed by each of several processes: python small_m3sr.py FLAGS."""

import json

import jax
import numpy as np

from m3sr_jax import M3SR, processes
from m3sr_jax.config import OptimConfig
from m3sr_jax.models import parameter_shapes
from m3sr_jax.training.devices import Devices
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step

STEPS, BATCH, SIZE = 20, 4, 16


def losses() -> list[float]:
    """Trains on the devices there are; the batches and where the parameters start are the same for any number."""
    from quick_compilation import QUICK  # asks XLA, so after the processes have joined

    rng = np.random.default_rng(0)
    # One branch of three: what compiles in 8 s and not in 23.
    fields = {"features": 4, "num_groups": 2, "branches": ("spatial",), "implementation": "reference"}
    model, optimizer = M3SR(**fields), make_optimizer(OptimConfig(), STEPS)
    params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(model))
    devices = Devices(BATCH)
    state = devices.replicate(create_train_state(optimizer, jax.tree.map(jax.numpy.asarray, params)))
    part = BATCH // jax.process_count()
    mine = slice(jax.process_index() * part, (jax.process_index() + 1) * part)
    step, found = None, []
    for _ in range(STEPS):
        whole = {name: rng.random((BATCH, SIZE, SIZE, width), np.float32) for name, width in (("rgb", 3), ("cube", 31))}
        batch = devices.shard({name: values[mine] for name, values in whole.items()})
        if step is None:
            step = jit_train_step(model, optimizer, mesh=devices.mesh).lower(state, batch).compile(QUICK)
        state, metrics = step(state, batch)
        found.append(float(metrics["loss"]))
    return found


if __name__ == "__main__":
    import tyro

    from m3sr_jax.cli.processes import Processes

    tyro.cli(Processes).join()
    print(json.dumps(losses()))
    processes.gather(lambda: None)
