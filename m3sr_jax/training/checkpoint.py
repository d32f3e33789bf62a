"""Checkpoints of a run: the newest state, to resume from, and the parameters that scored best.

Two Orbax managers, since one with `best_fn` and `max_to_keep` may drop the newest step. Orbax writes in the background
under a temporary name and renames, so every checkpoint is complete. Disks still fail: the state before the newest is
kept too, and each checkpoint carries a checksum of its numbers, which Orbax does not write.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_jax.checkpoint import CHECKPOINTS, PARAMS_CHECKSUM, checksum, host_copy, params_checksum, quiet_orbax
from m3sr_jax.errors import InputError, one_line, short_of_memory
from m3sr_jax.training.state import TrainState

STATES_KEPT = 2
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class Checkpoints:
    """Writes and reads WORKDIR/checkpoints/{latest,best}/STEP."""

    def __init__(self, workdir: Path) -> None:
        ocp = quiet_orbax()
        root = workdir.absolute() / CHECKPOINTS
        self._args = ocp.args
        self._quiet = ExitStack()
        self._quiet.enter_context(_without_thread_tracebacks())
        self._latest, self._best = (
            self._manager(ocp, root / folder, keep) for folder, keep in (("latest", STATES_KEPT), ("best", 1))
        )
        self._delete_best_after(self.latest_step() or 0)

    def _manager(self, ocp: Any, folder: Path, keep: int) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True, **_one_writer(ocp))
        return ocp.CheckpointManager(folder, options=options)

    def _delete_best_after(self, step: int) -> None:
        """Deletes parameters of steps that the run will repeat: it was killed before it saved their state."""
        for later in self._best.all_steps():
            if later > step:
                self._best.delete(later)

    def latest_step(self) -> int | None:
        """Returns the step of the newest state, None if nothing was saved."""
        return self._latest.latest_step()

    def save_latest(self, state: TrainState, run: dict[str, Any]) -> None:
        """Starts writing the state; returns once it is copied, so that the next step may reuse its memory.

        Args:
            state: what `restore_latest` will return.
            run: JSON values to store beside it, such as the data iterator's position.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        items = {"params": host_copy(state.params), "optimizer": host_copy(state.opt_state)}
        scored = state.scored
        mean = {} if scored is state.params else {"ema": host_copy(scored)}
        if state.ema is not None:  # otherwise it follows from the other items, and only `load_params` reads it
            items |= mean
        saved = {name: self._args.StandardSave(item) for name, item in (items | mean).items()}
        saved["run"] = self._args.JsonSave(
            run | {"crc32": checksum(items), PARAMS_CHECKSUM: params_checksum(mean.get("ema", items["params"]))}
        )
        with _writing(self._latest):
            self._latest.save(step, args=self._args.Composite(**saved))

    def save_if_best(self, state: TrainState, run: dict[str, Any]) -> None:
        """Writes the parameters if run["psnr"] is the best so far, and waits for the disk: the score is logged already.

        Args:
            state: its `scored` parameters are written.
            run: JSON values to store beside them, with their "psnr" in dB.
        """
        best = self.best_psnr()
        if best > float("-inf") and not run["psnr"] > best:  # NaN is above nothing, and anything replaces it
            return
        step = int(state.step)
        params = host_copy(state.scored)
        run = run | {PARAMS_CHECKSUM: params_checksum(params)}
        items = {"params": self._args.StandardSave(params), "run": self._args.JsonSave(run)}
        with _writing(self._best):
            self._best.save(step, args=self._args.Composite(**items))
            self._best.wait_until_finished()

    def restore_latest(self, template: TrainState) -> tuple[TrainState, dict[str, Any], list[str]]:
        """Returns the newest undamaged state, what was saved beside it, and what was wrong with newer ones.

        Damaged checkpoints are deleted; the run writes them again when it gets there. None is deleted for a reason that
        may pass, such as too little memory.

        Args:
            template: the state's structure, with arrays or their shapes and dtypes.

        Raises:
            InputError: every checkpoint is damaged or belongs to another model, or the newest cannot be read now.
        """
        faults: dict[int, str] = {}
        for step in sorted(self._latest.all_steps(), reverse=True):
            try:
                state, run = self._restore(step, template)
            except Exception as error:  # Orbax documents no closed set
                _refuse_if_it_may_pass(error, self._latest, step)
                faults[step] = one_line(error)
                continue
            for damaged in faults:
                self._latest.delete(damaged)
            self._delete_best_after(step)
            return state, run, [f"{self._latest.directory}/{found}: {fault}" for found, fault in faults.items()]
        reasons = "; ".join(f"step {step}: {fault}" for step, fault in faults.items())
        raise InputError(f"{self._latest.directory}: no checkpoint can be restored ({reasons}); choose a new --workdir")

    def _restore(self, step: int, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        wanted = {"params": template.params, "optimizer": template.opt_state}
        if template.ema is not None:
            wanted["ema"] = template.ema
        items = {name: self._args.StandardRestore(item) for name, item in wanted.items()}
        restored = self._latest.restore(step, args=self._args.Composite(**items, run=self._args.JsonRestore()))
        found, run = {name: restored[name] for name in wanted}, restored["run"]
        run.pop(PARAMS_CHECKSUM, None)
        if run.pop("crc32", None) != checksum(found):
            raise ValueError("its checksum does not match its numbers")
        arrays = jax.tree.map(jnp.array, found)
        state = TrainState(jnp.array(step, jnp.int32), arrays["params"], arrays["optimizer"], arrays.get("ema"))
        return state, run

    def best_psnr(self) -> float:
        """Returns the PSNR of the best checkpoint in dB, −∞ if there is none or it is damaged.

        Raises:
            InputError: it cannot be read now.
        """
        step = self._best.latest_step()
        if step is None:
            return float("-inf")
        try:
            return self._best.restore(step, args=self._args.Composite(run=self._args.JsonRestore()))["run"]["psnr"]
        except Exception as error:  # Orbax documents no closed set; the run may also have been killed while deleting it
            _refuse_if_it_may_pass(error, self._best, step)
            return float("-inf")

    def close(self) -> None:
        """Waits until everything is written; nothing can be saved afterwards.

        Raises:
            InputError: the newest state could not be written.
        """
        with self._quiet, _writing(self._best), closing(self._best), _writing(self._latest):
            self._latest.close()


@contextmanager
def _without_thread_tracebacks() -> Iterator[None]:
    """Hides tracebacks of Orbax's threads: the next call to Orbax raises the same error."""
    hook = threading.excepthook

    def on_thread(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("orbax."):
            hook(failure)

    threading.excepthook = on_thread
    try:
        yield
    finally:
        threading.excepthook = hook


def _refuse_if_it_may_pass(error: Exception, manager: Any, step: int) -> None:
    """Turns an error that is not about the content of a checkpoint, which may be whole, into an InputError.

    TensorStore, which reads the numbers, quotes the code of the system's error in a ValueError.
    """
    system = isinstance(error, OSError) and not isinstance(error, _MISSING)
    if system or "os_error_code=" in str(error) or short_of_memory(error):
        raise InputError(
            f"{manager.directory}/{step}: cannot be read now ({one_line(error)}); remove the cause and run the same "
            "command again, or delete this folder to resume from the checkpoint before it"
        ) from error


@contextmanager
def _writing(manager: Any) -> Iterator[None]:
    """Turns a failed write, also an earlier one in the background, into an InputError."""
    try:
        yield
    except Exception as error:  # Orbax documents no closed set
        full = os.strerror(errno.ENOSPC)
        reason = full if full in str(error) else one_line(error)
        raise InputError(
            f"{manager.directory}: a checkpoint cannot be written ({reason}); free some space and run the same command "
            "to resume from the checkpoint before it"
        ) from error


def _one_writer(ocp: Any) -> dict[str, Any]:
    """Returns options that keep Orbax from waiting for the other processes, which save nothing."""
    if jax.process_count() == 1:
        return {}
    first = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="writer")
    return {"multiprocessing_options": first, "create": False}
