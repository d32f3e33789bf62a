"""The training loop: the one place that reads data, writes files and talks to the user.

Exactly resumable: a checkpoint holds parameters, optimiser state, step and the data iterator's position, and the lines
of a step are in metrics.jsonl before its checkpoint is there: a kill at any moment neither repeats nor skips one.

Several processes run the same loop on their own devices and parts of each batch; process 0 alone has files and a
console, and tells the others what it reads there (`m3sr_jax.processes`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from m3sr_jax.checkpoint import load_params
from m3sr_jax.config import Config
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.pipeline import steps_per_epoch, train_batches
from m3sr_jax.data.scenes import Dataset
from m3sr_jax.data.store import is_store
from m3sr_jax.environment import environment
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import write_text
from m3sr_jax.model_card import MODEL_FILE, ModelCard, read_card
from m3sr_jax.models import build_model, init_params, parameter_shapes
from m3sr_jax.processes import is_writer, on_writer, together, writer_first
from m3sr_jax.training.checkpoint import Checkpoints
from m3sr_jax.training.devices import Devices
from m3sr_jax.training.losses import weighted_loss
from m3sr_jax.training.metric_writer import MetricWriter
from m3sr_jax.training.progress import TrainingProgress
from m3sr_jax.training.signals import StopError, StopRequest
from m3sr_jax.training.state import TrainState, create_train_state, learning_rate_schedule, make_optimizer
from m3sr_jax.training.step import Batch, Metrics, jit_train_step
from m3sr_jax.training.validation import Validation
from m3sr_jax.training.workdir import owned_workdir, prepare_workdir, telling_of_disk

INTERRUPTED = 130


def train_and_evaluate(config: Config, workdir: str | Path) -> int:
    """Trains to the last step, evaluating and saving on the way, and writes WORKDIR/report.

    Run again with the same arguments it goes on exactly where the newest checkpoint left off; a finished run only
    gets its report back if that is missing.

    Args:
        config: everything the run depends on.
        workdir: gets config.json, model.json, checkpoints/, metrics.jsonl and report/.

    Returns:
        0 when the last step is done, 130 when SIGINT or SIGTERM stopped it and the state is saved.

    Raises:
        InputError: the workdir or the data cannot be used, or the loss is no longer finite.
    """
    workdir = Path(workdir)
    with StopRequest() as stop, telling_of_disk(workdir), contextlib.ExitStack() as owned:
        on_writer(lambda: _begin(workdir, config, owned))
        run = _Run(config, workdir, stop)
        try:
            if not run.train():
                return INTERRUPTED
            run.report()
            return 0
        finally:
            run.close()


def _begin(workdir: Path, config: Config, owned: contextlib.ExitStack) -> None:
    owned.enter_context(owned_workdir(workdir))
    prepare_workdir(workdir, config)


class _Run:
    """What one process does for a run."""

    def __init__(self, config: Config, workdir: Path, stop: StopRequest) -> None:
        self.config, self.workdir, self.stop = config, workdir, stop
        self.scans = _scans(config)
        self.devices = Devices(config.data.batch_size, config.optim.accumulate_steps)
        self.stop_agreed = False
        self.damaged: list[str] = []
        self.told_of: set[int] = set()
        skip = config.data.on_bad_scene == "skip"
        self.dataset = dataclasses.replace(writer_first(lambda: open_dataset(config.data)), skip_bad_scenes=skip)
        self.model = build_model(config.model)
        self.num_steps, self.batches = _open_batches(config, self.dataset)
        # On the host: to ask the device in the loop would be to wait for the step it is at.
        self.rates = jax.device_get(
            jax.vmap(learning_rate_schedule(config.optim, self.num_steps))(jnp.arange(self.num_steps))
        )
        self.facts = environment() | {"seed": config.seed, "data": _fingerprint(self.dataset)}
        self._check_same_data()
        if is_writer():
            self.checkpoints = Checkpoints(workdir)
        self.card = on_writer(self._open_card)
        self._start()
        self.step = self.first_step = int(self.state.step)
        self.validation = Validation(self.model, self.dataset)
        on_writer(self._open_writer)
        self.progress = TrainingProgress(self.num_steps, self.step, quiet=not is_writer())
        self.speed = _Speed()

    def _start(self) -> None:
        """Sets state, compiled step and data position: those of the newest checkpoint, or new ones."""
        optim = self.config.optim
        optimizer = make_optimizer(optim, self.num_steps)
        how: dict[str, Any] = {"accumulate_steps": optim.accumulate_steps, "ema_decay": optim.ema_decay}
        self.train_step = jit_train_step(
            self.model, optimizer, weighted_loss(self.config.loss), mesh=self.devices.mesh, **how
        )
        create = partial(create_train_state, optimizer, ema=optim.ema_decay is not None)
        state, position = on_writer(lambda: self._first_state(create))
        self.state = self.devices.replicate(state)
        if position is not None:
            self.batches.set_state(position)

    def _first_state(self, create: Callable[[Any], TrainState]) -> tuple[TrainState, dict[str, int] | None]:
        """Returns the state to go on from and, of a run that was begun, the data position."""
        init_from = self.config.train.init_from
        if self.checkpoints.latest_step() is not None:
            template = jax.eval_shape(create, parameter_shapes(self.model))
            state, saved, self.damaged = self.checkpoints.restore_latest(template)
            return state, saved["batches"]
        if init_from:
            return create(jax.tree.map(jnp.array, load_params(init_from, self.model))), None
        return create(init_params(self.model, jax.random.key(self.config.seed))), None

    def _open_writer(self) -> None:
        self.writer = MetricWriter(self.workdir, last_step=self.step, tensorboard=self.config.train.tensorboard)
        self.writer.write_hparams(json.loads(self.config.to_json()))

    def _check_same_data(self) -> None:
        if len(set(together(lambda: self.facts["data"]))) > 1:
            raise InputError(f"{self.dataset.name}: the processes see different data; give all of them the same files")

    def _open_card(self) -> ModelCard:
        """Reads the run's model.json, which must tell of the same data, or writes it."""
        path, source = self.workdir / MODEL_FILE, self.dataset.train
        if path.exists():
            card = read_card(self.workdir)
            if card.provenance.get("data") != self.facts["data"]:
                raise InputError(f"{self.workdir}: the data have changed since this run began; give a new --workdir")
            return card
        decay = self.config.optim.ema_decay
        averaged = {} if decay is None else {"ema_decay": decay}
        card = ModelCard(
            model=self.config.model,
            wavelengths=tuple(map(float, source.wavelengths)),
            rgb_normalization=source.rgb_normalization,
            camera=source.camera_name,
            provenance=self.facts | {"dataset": self.dataset.name, "init_from": self.config.train.init_from} | averaged,
        )
        write_text(path, card.to_json())
        return card

    def train(self) -> bool:
        """Runs the steps that remain; returns False when a signal stopped it, with everything saved."""
        self._greet()
        self._prepare_scores()
        pending: deque[tuple[int, Metrics]] = deque()
        with self.progress, self.stop.deferred():
            with contextlib.suppress(StopError):  # raised between steps and between the scenes of an evaluation
                while self.step < self.num_steps:
                    self.state, metrics = self.train_step(self.state, self._next_batch())
                    self.step += 1
                    pending.append((self.step, metrics))
                    due = self._is_due("eval") or self._is_due("checkpoint")
                    # One step behind, the host waits for nothing that the device still has to do.
                    self._record(pending, keep=0 if due else 1)
                    if self.stop_agreed:
                        raise StopError
                    if due:
                        self._evaluate_and_save()
            self._record(pending, keep=0)
            self._save()
        if self.step < self.num_steps or not self._has("eval/psnr", self.step):
            self.progress.say(
                f"stopped and saved at step {self.step} of {self.num_steps}; the same command again goes on"
            )
            return False
        return True

    def _next_batch(self) -> Batch:
        alone = jax.process_count() == 1
        if alone:
            self.stop.check()
        try:
            batch = next(self.batches)
        except RuntimeError as error:  # Ctrl-C in a terminal reaches the data workers too, and ends them
            if alone:
                self.stop.check()
            batch = self._from_new_workers(error)
        self._tell_of_skipped_scenes()
        return self.devices.share(batch, stop=self.stop.requested)

    def _from_new_workers(self, error: RuntimeError) -> Batch:
        """The batch that workers died over, most often for lack of memory, made by new ones."""
        if not self.stop.requested:
            self.progress.say(f"WARNING  the data workers ended and are started again: {error}")
        self.batches.set_state(self.batches.get_state())
        try:
            return next(self.batches)
        except RuntimeError as again:
            raise InputError(f"the data workers end again and again ({again}); set data.num_workers=0") from again

    def _tell_of_skipped_scenes(self) -> None:
        for index in self.batches.skipped.keys() - self.told_of:
            self.told_of.add(index)
            try:
                reason = "it could be read now" if self.dataset.train[index] else ""
            except InputError as error:
                reason = str(error)
            name = self.dataset.train.names[index]
            self.progress.say(f"WARNING  scene {name} is left out, other scenes' crops take its place: {reason}")

    def _has(self, name: str, step: int | None = None) -> bool:
        return on_writer(lambda: self.writer.has(name, step))

    def _write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        if is_writer():
            self.writer.write_scalars(step, scalars)

    def _prepare_scores(self) -> None:
        """Scores what comes before the first step: the fits to beat, and an evaluation that a signal cut off."""
        if not self._has("baseline/least_squares/psnr"):
            scores = self.validation.score_baselines()
            self._write_scalars(self.step, {f"baseline/{name}": value for name, value in scores.items()})
        if self.step and self._is_due("eval") and not self._has("eval/psnr", self.step):
            self._evaluate()

    def _is_due(self, what: str) -> bool:
        every = getattr(self.config.train, f"{what}_every_steps")
        return self.step % every == 0 or self.step == self.num_steps

    def _record(self, pending: deque[tuple[int, Metrics]], *, keep: int) -> None:
        """Shows and writes the oldest steps' numbers, all but the last `keep`."""
        batch_size, every = self.config.data.batch_size, self.config.train.log_every_steps
        while len(pending) > keep:
            step, metrics = pending.popleft()
            numbers = jax.device_get(metrics)
            loss, grad_norm = float(numbers["loss"]), float(numbers["grad_norm"])
            self.stop_agreed |= bool(numbers.get("stop", False))
            self._check_finite(step, loss, grad_norm)
            self.speed.add(batch_size)
            rate, images_per_second = float(self.rates[step - 1]), self.speed.per_second()
            if step % every == 0 or step == self.num_steps:
                scalars = {"loss": loss, "learning_rate": rate, "images_per_second": images_per_second}
                if self.batches.skipped:
                    scalars["skipped_crops"] = sum(self.batches.skipped.values())
                self._write_scalars(step, {f"train/{name}": value for name, value in scalars.items()})
                self.speed.restart()
            elif step == self.first_step + 1:
                self.speed.restart()  # the first step compiles
            shown = None if step == self.first_step + 1 else images_per_second
            self.progress.update(step, loss, rate, shown, batch_size)

    def _check_finite(self, step: int, loss: float, grad_norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        kept = on_writer(lambda: self.checkpoints.latest_step())
        where = "nothing was saved yet" if kept is None else f"the checkpoint of step {kept} is kept"
        raise InputError(
            f"step {step}: found loss {loss} and gradient norm {grad_norm}, expected finite numbers; stopped, {where}; "
            "look for wrong values in the data, or lower optim.learning_rate or set optim.grad_clip in a new --workdir"
        )

    def _evaluate_and_save(self) -> None:
        if self._is_due("eval"):
            self._evaluate()
        self._save()
        self.speed.restart()

    def _evaluate(self) -> None:
        self.progress.describe("evaluating")
        params = self.devices.local(self.state.scored)
        scores = self.validation.score(self.validation.predictor(params, before_scene=self.stop.check))
        if not is_writer():
            return
        self.writer.write_scalars(self.step, {f"eval/{name}": value for name, value in scores.items()})
        self.writer.flush()
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self.progress.say(f"step {self.step}  held-out scenes: {shown}")
        if scores["psnr"] > self.checkpoints.best_psnr():
            self.checkpoints.save_best(self.state, self.facts | {"psnr": scores["psnr"]})

    def _save(self) -> None:
        if not is_writer():
            return
        self.writer.flush()
        self.checkpoints.save_latest(self.state, self.facts | {"batches": self.batches.get_state()})

    def report(self) -> None:
        """Writes WORKDIR/report on the best checkpoint, unless it is there."""
        from m3sr_jax.evaluation.published import published_rows
        from m3sr_jax.evaluation.report import model_facts, write_report
        from m3sr_jax.evaluation.tables import score_table

        folder = self.workdir / "report"
        if not on_writer(lambda: (folder / "report.json").exists()):
            for unfinished in folder.glob(".*") if is_writer() else ():  # by a process that was killed
                unfinished.unlink()
            predict = self.validation.predictor(on_writer(lambda: load_params(self.workdir, self.model)))
            facts = model_facts(self.card)
            name, protocol = self.config.model.name, self.validation.protocol
            reports = write_report(folder, predict, self.dataset, protocol, name=name, model=facts)
            self.progress.console.print(score_table(reports, published_rows(self.dataset.name, facts)))
        self.progress.say(f"report   {folder}")

    def _greet(self) -> None:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        train, valid = len(self.dataset.train), len(self.dataset.valid)
        say = self.progress.say
        say(f"model    {self.config.model.name}, {count:,} parameters, {self.config.model.dtype}, scans: {self.scans}")
        say(f"device   {self.devices.describe()}, jax {jax.__version__}")
        camera = self.dataset.train.camera_name
        say(f"data     {self.dataset.name}: {train} training and {valid} held-out scenes, camera {camera}")
        if self.dataset.missing:
            missing, first = len(self.dataset.missing), self.dataset.missing[0]
            say(f"WARNING  {missing} files or scenes of the official split are missing, {first} the first: no score of")
            say("         this run compares with published ones; `m3sr check` lists them")
        if self.config.data.name.startswith("ntire") and not is_store(self.config.data.root):
            say("hint     every crop reads a whole .mat file; `m3sr prepare` makes batches 20 times as fast")
        say(f"workdir  {self.workdir}")
        for fault in self.damaged:
            say(f"WARNING  a checkpoint is damaged and was removed: {fault}")
        if self.step == self.num_steps:
            say(f"finished: all {self.num_steps} steps are done")
        else:
            begin = f"going on from step {self.step}" if self.step else "a new run"
            say(f"steps    {self.num_steps}, {begin}")

    def close(self) -> None:
        """Waits for checkpoints being written and closes files and threads."""
        with contextlib.ExitStack() as closing:  # in reverse, each whatever the others raise
            if is_writer():
                closing.callback(self.checkpoints.close)
                closing.callback(self.writer.close)
            closing.callback(self.batches.close)


class _Speed:
    """Images a second since the last restart."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._since, self._images = time.monotonic(), 0

    def add(self, images: int) -> None:
        self._images += images

    def per_second(self) -> float:
        return self._images / max(time.monotonic() - self._since, 1e-9)


def _scans(config: Config) -> str:
    """Returns the implementation of the scans that will run on the first device."""
    from m3sr_kernels.dispatch import resolve

    try:
        return resolve(config.model.implementation, jax.devices()[0].platform)
    except NotImplementedError as error:
        raise InputError(f"config field model.implementation: {error}") from error


def _open_batches(config: Config, dataset: Dataset) -> tuple[int, Any]:
    """Returns the run's number of steps and its endless batches."""
    data, bands = config.data, len(dataset.train.wavelengths)
    if bands != config.model.num_bands:
        found = config.model.num_bands
        raise InputError(f"config field model.num_bands: found {found}, expected {bands} as in the {dataset.name} data")
    crops = {"batch_size": data.batch_size, "crop_size": data.crop_size}
    num_steps = config.train.total_steps(steps_per_epoch(dataset.train, **crops))
    how: dict[str, Any] = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    how |= {"num_workers": data.num_workers, "skip_bad_scenes": dataset.skip_bad_scenes}
    return num_steps, train_batches(dataset.train, **crops, **how, seed=config.seed)


def _fingerprint(dataset: Dataset) -> str:
    return f"{dataset.train.fingerprint()} {dataset.valid.fingerprint()}"
