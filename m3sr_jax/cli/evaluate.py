"""`m3sr evaluate`: scores a checkpoint on held-out scenes, beside least-squares fits on the training scenes."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from m3sr_jax.checkpoint import ModelCard
    from m3sr_jax.config import DataConfig
    from m3sr_jax.data.scenes import Dataset
    from m3sr_jax.inference.evaluate import Predict, Report
    from m3sr_jax.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a checkpoint on held-out scenes, beside least-squares fits on the training scenes of the same data set.

    Attributes:
        checkpoint: a training workdir, or what m3sr convert wrote.
        dataset: which scenes; by default those that the run was trained on.
        data_root: folder of the data set as downloaded; for synthetic scenes the cache.
        split_file: lists the training and the test scenes, in place of the built-in split.
        camera: response that takes the photos: cie1964, or a CSV, MAT or NPZ file.
        protocol: terms of the scores (cave, synthetic, ntire2020 or ntire2022); by default the data set's own.
        which: the checkpoint of a training run, the best by validation PSNR or the latest.
        output: where to write the scores as JSON.
    """

    checkpoint: Path
    dataset: Literal["synthetic", "cave"] | None = None
    data_root: str | None = None
    split_file: str | None = None
    camera: str | None = None
    protocol: str | None = None
    which: Literal["best", "latest"] = "best"
    output: Path | None = None

    def run(self) -> None:
        """Prints the table, and writes the report if asked to.

        Raises:
            InputError: The checkpoint, the data, the protocol or the output's folder cannot be used.
        """
        from rich.console import Console

        from m3sr_jax.checkpoint import load_model, write_text
        from m3sr_jax.data.scenes import open_dataset
        from m3sr_jax.protocols import get_protocol
        from m3sr_jax.report.scores import report_json, score_table
        from m3sr_jax.report.write import dataset_facts, model_facts

        if self.output is not None:
            _check_output(self.output)
        model, params, card = load_model(self.checkpoint, self.which)
        config = self._data_config()
        protocol = get_protocol(self.protocol or config.name)
        dataset = open_dataset(config)
        check_fit(card, dataset)
        reports = _score(_predictor(model, params, card), dataset, protocol, card.model.name)
        Console().print(score_table(reports))
        if self.output is not None:
            text = report_json(reports, model=model_facts(card), dataset=dataset_facts(dataset))
            write_text(self.output, text)
            print(f"wrote {self.output}")

    def _data_config(self) -> DataConfig:
        """The run's own data, as far as nothing else is asked for."""
        from m3sr_jax.config import DataConfig, load_config

        trained = self.checkpoint / "config.json"
        base = load_config(trained).data if trained.is_file() else None
        if self.dataset is not None and (base is None or base.name != self.dataset):
            base = DataConfig(name=self.dataset)
        if base is None:
            raise InputError(f"{self.checkpoint}: does not say what it was trained on; give --dataset")
        given = {"root": self.data_root, "split_file": self.split_file, "camera": self.camera}
        return dataclasses.replace(base, **{field: value for field, value in given.items() if value is not None})


def check_fit(card: ModelCard, dataset: Dataset) -> None:
    """Compares what a model was made for with the scenes.

    Raises:
        InputError: Other bands, or photos that were normalised in a way that cannot be undone.
    """
    import numpy as np

    source, made_for = dataset.valid, np.asarray(card.wavelengths)
    if len(made_for) != len(source.wavelengths) or np.abs(made_for - source.wavelengths).max() > 0.5:
        model, scenes = (f"{len(nm)} bands over {nm[0]:g}-{nm[-1]:g} nm" for nm in (made_for, source.wavelengths))
        raise InputError(f"the model gives {model}, the scenes of {dataset.name} have {scenes}; expected the same")
    if source.rgb_normalization not in ("unit", card.rgb_normalization):
        raise InputError(
            f'the model takes photos normalised by "{card.rgb_normalization}", those of {dataset.name} are stored '
            f'normalised by "{source.rgb_normalization}"'
        )


def _check_output(path: Path) -> None:
    """A minute's evaluation should not end in a path that cannot be written."""
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; expected a file in an existing, writable folder")


def _predictor(model: Any, params: Any, card: ModelCard) -> Predict:
    import jax

    from m3sr_jax.inference.predict import normalise_rgb, predict

    on_device = jax.device_put(params)

    def run(rgb: np.ndarray) -> np.ndarray:
        return predict(model, on_device, normalise_rgb(rgb, card.rgb_normalization))

    return run


def _score(predict_fn: Predict, dataset: Dataset, protocol: Protocol, name: str) -> list[Report]:
    from rich.progress import Progress

    from m3sr_jax.inference.evaluate import evaluate, fit_baselines
    from m3sr_jax.report.scores import title

    with Progress(transient=True) as progress:
        fitting = progress.add_task("fitting least squares", total=None)
        methods = {name: predict_fn} | fit_baselines(dataset)
        progress.remove_task(fitting)
        reports = []
        for label, method in methods.items():
            task = progress.add_task(title(label), total=len(dataset.valid))
            tick = partial(_advance, progress, task)
            reports.append(evaluate(method, dataset.valid, protocol, tick, name=label))
    return reports


def _advance(progress: Any, task: Any, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)
