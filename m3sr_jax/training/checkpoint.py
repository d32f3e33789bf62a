"""Checkpoints of a run: the newest state, to resume from, and the parameters that scored best.

Two Orbax managers, since one with `best_fn` and `max_to_keep` may drop the newest step. Orbax writes under a temporary
name and renames, in the background: a checkpoint that is there is complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_jax.checkpoint import CHECKPOINTS, host_copy, quiet_orbax
from m3sr_jax.errors import InputError
from m3sr_jax.training.state import TrainState


class Checkpoints:
    """Writes and reads WORKDIR/checkpoints/{latest,best}/STEP."""

    def __init__(self, workdir: Path) -> None:
        ocp = quiet_orbax()
        root = workdir.absolute() / CHECKPOINTS
        options = ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True, **_one_writer(ocp))
        for folder in ("latest", "best"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self._args = ocp.args
        self._latest = ocp.CheckpointManager(root / "latest", options=options)
        self._best = ocp.CheckpointManager(root / "best", options=options)
        for step in self._best.all_steps():
            if step > (self.latest_step() or 0):  # a kill came between the two; the run will reach that step again
                self._best.delete(step)

    def latest_step(self) -> int | None:
        """Returns the number of updates behind the newest state, None where nothing was saved."""
        return self._latest.latest_step()

    def save_latest(self, state: TrainState, run: dict[str, Any]) -> None:
        """Starts writing the state; returns once it is copied, so that the next step may reuse its memory.

        Args:
            state: what `restore_latest` gives back.
            run: JSON values beside it, such as the data iterator's position.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        items = {
            "params": self._args.StandardSave(host_copy(state.params)),
            "optimizer": self._args.StandardSave(host_copy(state.opt_state)),
            "run": self._args.JsonSave(run),
        }
        if state.ema is not None:
            items["ema"] = self._args.StandardSave(host_copy(state.ema))
        self._latest.save(step, args=self._args.Composite(**items))

    def save_best(self, state: TrainState, run: dict[str, Any]) -> None:
        """Writes the parameters, and waits: the metrics that made them the best must not outlive them."""
        step = int(state.step)
        items = {"params": self._args.StandardSave(host_copy(state.scored)), "run": self._args.JsonSave(run)}
        self._best.save(step, args=self._args.Composite(**items))
        self._best.wait_until_finished()

    def restore_latest(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Returns the newest state and what was saved beside it.

        Args:
            template: arrays, or their shapes and dtypes, in the structure of the state.

        Raises:
            InputError: the checkpoint is damaged or of another model.
        """
        step = self._latest.latest_step()
        items = {
            "params": self._args.StandardRestore(template.params),
            "optimizer": self._args.StandardRestore(template.opt_state),
            "run": self._args.JsonRestore(),
        }
        if template.ema is not None:
            items["ema"] = self._args.StandardRestore(template.ema)
        try:
            restored = self._latest.restore(step, args=self._args.Composite(**items))
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{self._latest.directory}/{step}: cannot be restored ({reason})") from error
        kept = restored["params"], restored["optimizer"], restored["ema"] if template.ema is not None else None
        params, opt_state, ema = jax.tree.map(jnp.array, kept)
        return TrainState(jnp.array(step, jnp.int32), params, opt_state, ema), restored["run"]

    def best_psnr(self) -> float:
        """Returns the PSNR of the best checkpoint in dB, −∞ where there is none."""
        step = self._best.latest_step()
        if step is None:
            return float("-inf")
        run = self._best.restore(step, args=self._args.Composite(run=self._args.JsonRestore()))["run"]
        return run["psnr"]

    def close(self) -> None:
        """Waits for what is being written; nothing can be saved afterwards."""
        self._latest.close()
        self._best.close()


def _one_writer(ocp: Any) -> dict[str, Any]:
    """Options by which Orbax does not wait for processes that save nothing: all but the first."""
    if jax.process_count() == 1:
        return {}
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="writer")
    return {"multiprocessing_options": alone, "create": False}
