"""What becomes of a step's numbers: read from the device, checked, written to metrics.jsonl and shown."""

from __future__ import annotations

import math
import time
from collections import deque

import jax
import jax.numpy as jnp

from m3sr_jax.errors import InputError
from m3sr_jax.processes import on_writer
from m3sr_jax.training.messages import not_finite
from m3sr_jax.training.optimizer import learning_rate_schedule
from m3sr_jax.training.setup import Run
from m3sr_jax.training.step import Metrics


class Recorder:
    """Records the steps of a run, a step behind the device if asked to, so that the host does not wait for it.

    Attributes:
        stop_agreed: whether a process had been asked to stop before the last recorded step.
    """

    def __init__(self, run: Run) -> None:
        self.stop_agreed = False
        self._run = run
        self._first_step = run.step + 1
        self._pending: deque[tuple[int, Metrics]] = deque()
        # On the host: evaluated on the device, a rate would wait for the step in progress.
        schedule = learning_rate_schedule(run.config.optim, run.num_steps)
        self._rates = jax.device_get(jax.vmap(schedule)(jnp.arange(run.num_steps)))
        self.restart_clock()

    def restart_clock(self) -> None:
        """Measures images per second from now on."""
        self._since, self._images = time.monotonic(), 0

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a step without waiting for them."""
        self._pending.append((step, metrics))

    def record(self, *, pending: int = 0) -> None:
        """Waits for all metrics but the newest `pending` and records them; raises InputError unless they are finite."""
        while len(self._pending) > pending:
            step, metrics = self._pending.popleft()
            numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
            self.stop_agreed |= bool(numbers.get("stop", False))
            self._check_finite(step, numbers["loss"], numbers["grad_norm"])
            self._write(step, numbers["loss"])

    def _check_finite(self, step: int, loss: float, grad_norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise InputError(not_finite(step, loss, grad_norm, on_writer(self._run.checkpoints.latest_step)))

    def _write(self, step: int, loss: float) -> None:
        run, train = self._run, self._run.config.train
        self._images += run.config.data.batch_size
        rate, speed = float(self._rates[step - 1]), self._images / max(time.monotonic() - self._since, 1e-9)
        if step % train.log_every_steps == 0 or step == run.num_steps:
            scalars = {"loss": loss, "learning_rate": rate, "images_per_second": speed}
            if run.batches.skipped:
                scalars["skipped_crops"] = sum(run.batches.skipped.values())
            run.writer.write_scalars(step, {f"train/{name}": value for name, value in scalars.items()})
            self.restart_clock()
        elif step == self._first_step:
            self.restart_clock()  # the first step compiles
        shown = None if step == self._first_step else speed
        run.progress.update(step, loss, rate, shown, run.config.data.batch_size)
