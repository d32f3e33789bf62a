"""Sets up a training run: locks the workdir, opens data, model and files, and restores the newest state.

Only process 0 reads and writes the workdir (`m3sr_jax.processes`); afterwards every process has the same `Run`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import optax
from m3sr_kernels.dispatch import Implementation, resolve

from m3sr_jax.config import Config
from m3sr_jax.data.open import open_dataset
from m3sr_jax.data.pipeline import Batches, steps_per_epoch
from m3sr_jax.data.scenes import Dataset
from m3sr_jax.environment import environment
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import span
from m3sr_jax.model_card import MODEL_FILE, ModelCard, read_card, write_card
from m3sr_jax.models import build_model, init_params, parameter_shapes
from m3sr_jax.processes import gather, is_writer, on_writer, writer_first, writer_only
from m3sr_jax.training.checkpoint import Checkpoints
from m3sr_jax.training.devices import Devices
from m3sr_jax.training.fitting import configured_batches, with_fit
from m3sr_jax.training.initial import first_params
from m3sr_jax.training.losses import weighted_loss
from m3sr_jax.training.metric_writer import MetricWriter
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.progress import TrainingProgress
from m3sr_jax.training.state import TrainState, create_train_state
from m3sr_jax.training.step import jit_train_step
from m3sr_jax.training.validation import Validation
from m3sr_jax.training.workdir import check_same_run, owned_workdir, write_config


class Run:
    """What a training run consists of, besides its configuration, data and model.

    Attributes:
        scans: name of the scan kernels that will run.
        batches: endless training batches, of which this process makes its part.
        num_steps: number of updates of the whole run.
        facts: versions, device, seed and data, stored with every checkpoint.
        checkpoints: outside process 0 a stand-in that does nothing; so is `writer`.
        damaged: newer checkpoints that could not be restored, and why.
        notes: what the user should know about the parameters that training starts from.
        state: state after `step` updates.
        reported_scenes: indices of skipped scenes that the user knows of.
        progress: prints, in process 0 alone.
    """

    def __init__(self, config: Config, workdir: Path, closing: contextlib.ExitStack) -> None:
        """Opens everything, for a new run or from the newest checkpoint; `closing` will close it."""
        self.config, self.workdir = config, workdir
        on_writer(lambda: closing.enter_context(owned_workdir(workdir)))
        if config.model.num_bands is None:
            self.config = config = _with_bands_of_data(config)
        on_writer(lambda: check_same_run(workdir, config))
        self.scans = _scan_implementation(config)
        self.devices = Devices(config.data.batch_size, config.optim.accumulate_steps)
        self.dataset = _open_data(config)
        self.model = build_model(config.model)
        self.num_steps, self.batches = _open_batches(config, self.dataset)
        closing.callback(self.batches.close)
        self.facts = environment() | {"seed": config.seed, "data": data_fingerprint(self.dataset)}
        self.card = on_writer(lambda: _run_card(config, workdir, self.dataset, self.facts))
        self.checkpoints = writer_only(lambda: Checkpoints(workdir))
        closing.callback(self.checkpoints.close)
        optimizer = make_optimizer(config.optim, self.num_steps)
        self.train_step = jit_train_step(
            self.model,
            optimizer,
            weighted_loss(config.loss),
            mesh=self.devices.mesh,
            seed=config.seed,
            accumulate_steps=config.optim.accumulate_steps,
            ema_decay=config.optim.ema_decay,
        )
        first = on_writer(
            lambda: _first_state(config, self.dataset, self.model, self.card, optimizer, self.checkpoints)
        )
        on_writer(lambda: _claim(workdir, config, self.card))
        state, position, self.damaged, self.notes = first
        self.state, self.step = self.devices.replicate(state), int(state.step)
        if position is not None:
            self.batches.set_state(position)
        tensorboard = config.train.tensorboard
        self.writer = writer_only(lambda: MetricWriter(workdir, last_step=self.step, tensorboard=tensorboard))
        self.writer.write_hparams(json.loads(config.to_json()))
        closing.callback(self.writer.close)
        self.reported_scenes: set[int] = set()
        self.validation = Validation(self.model, self.dataset)
        self.progress = TrainingProgress(self.num_steps, self.step, quiet=not is_writer())

    def is_due(self, action: str) -> bool:
        """Returns whether "eval" or "checkpoint" is due at the current step; at the last step both are."""
        every = getattr(self.config.train, f"{action}_every_steps")
        return self.step % every == 0 or self.step == self.num_steps


def _scan_implementation(config: Config) -> str:
    """Returns the implementation of the scans that will run on the first device."""
    name = cast("Implementation | None", config.model.implementation)  # checked by `Config`
    try:
        return resolve(name, jax.devices()[0].platform)
    except NotImplementedError as error:
        raise InputError(f"config field model.implementation: {error}") from error


def _with_bands_of_data(config: Config) -> Config:
    """Sets an unset number of bands, before config.json is written or compared."""
    bands = len(writer_first(lambda: open_dataset(config.data)).train.wavelengths)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, num_bands=bands))


def _open_data(config: Config) -> Dataset:
    dataset = writer_first(lambda: open_dataset(config.data))
    nm = dataset.train.wavelengths
    if len(nm) != config.model.num_bands:
        raise InputError(
            f"config field model.num_bands: found {config.model.num_bands}, expected {len(nm)} as in the "
            f"{dataset.name} data ({span(nm)}); pass --config.model.num_bands={len(nm)}"
        )
    if len(set(gather(lambda: data_fingerprint(dataset)))) > 1:
        raise InputError(f"{dataset.name}: the processes see different data; give all of them the same files")
    return dataclasses.replace(dataset, skip_bad_scenes=config.data.on_bad_scene == "skip")


def _open_batches(config: Config, dataset: Dataset) -> tuple[int, Batches]:
    """Returns the run's number of steps and its endless batches."""
    data = config.data
    sizes = data.crop_size, data.patch_size
    num_steps = config.train.total_steps(steps_per_epoch(dataset.train, data.batch_size, *sizes))
    shard = {"shard_index": jax.process_index(), "shard_count": jax.process_count()}
    return num_steps, configured_batches(config, dataset, **shard)


def data_fingerprint(dataset: Dataset) -> str:
    """Returns a string that changes with the training or the held-out scenes."""
    return f"{dataset.train.fingerprint()} {dataset.valid.fingerprint()}"


def _run_card(config: Config, workdir: Path, dataset: Dataset, facts: dict[str, Any]) -> ModelCard:
    """Reads the run's model.json and checks that the data are the same, or makes a new one."""
    source = dataset.train
    if (workdir / MODEL_FILE).exists():
        card = read_card(workdir)
        if "data" not in card.provenance:
            raise InputError(
                f"{workdir}: holds a model that no training run wrote; choose a new --workdir, with "
                f"--config.train.init_from={workdir} to start from it"
            )
        if card.provenance["data"] != facts["data"]:
            raise InputError(f"{workdir}: the data have changed since this run began; choose a new --workdir")
        return card
    decay = config.optim.ema_decay
    averaged = {} if decay is None else {"ema_decay": decay}
    return ModelCard(
        model=config.model,
        wavelengths=tuple(map(float, source.wavelengths)),
        rgb_normalization=source.rgb_normalization,
        camera=source.camera_name,
        encoding=source.encoding,
        quantity=source.quantity,
        scale=source.scale,
        provenance=facts | {"dataset": dataset.name, "init_from": config.train.init_from} | averaged,
    )


def _claim(workdir: Path, config: Config, card: ModelCard) -> None:
    """Makes the folder that of this run, once nothing is left that a corrected command would change."""
    write_config(workdir, config)
    if not (workdir / MODEL_FILE).exists():
        write_card(card, workdir)


def _first_state(
    config: Config,
    dataset: Dataset,
    model: nn.Module,
    card: ModelCard,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
) -> tuple[TrainState, dict[str, int] | None, list[str], list[str]]:
    """Returns the state to start or resume from, the data position when resuming, and two lists of messages.

    They are the faults of newer checkpoints, and notes on parameters of another model.
    """
    create = partial(create_train_state, optimizer, ema=config.optim.ema_decay is not None)
    if checkpoints.latest_step() is not None:
        state, saved, damaged = checkpoints.restore_latest(jax.eval_shape(create, parameter_shapes(model)))
        return state, saved["batches"], damaged, []

    def draw() -> Any:
        return with_fit(config, dataset, init_params(model, jax.random.key(config.seed)))

    params, notes = first_params(config, model, card, draw) if config.train.init_from else (draw(), [])
    return create(params), None, [], notes
