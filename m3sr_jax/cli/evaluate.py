"""`m3sr evaluate`: scores a checkpoint on held-out scenes, beside least-squares fits on the training scenes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3sr_jax.cli.processes import Processes
from m3sr_jax.cli.progress import advance
from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from m3sr_jax.config import DataConfig
    from m3sr_jax.data.scenes import Dataset, Scene
    from m3sr_jax.evaluation.evaluate import Observe, Predict, Report
    from m3sr_jax.evaluation.protocols import Protocol
    from m3sr_jax.model_card import ModelCard


@dataclasses.dataclass(frozen=True)
class Evaluate(Processes):
    """Score a checkpoint on held-out scenes, beside least-squares fits on the training scenes of the same data set.

    Attributes:
        checkpoint: a training workdir, or what m3sr convert wrote.
        dataset: which scenes; by default those that the run was trained on.
        data_root: folder of the data set as downloaded, or a prepared store; for synthetic scenes the cache.
        split_file: lists the training and the test scenes, in place of the built-in split.
        camera: takes the photos: cie1964, or a CSV, MAT or NPZ file; by default those of the data set.
        protocol: terms of the scores (cave, synthetic, ntire2020 or ntire2022); by default the data set's own.
        which: the checkpoint of a training run, the best by validation PSNR or the latest.
        output: where to write the scores as JSON; tables as .md, .csv and .tex go beside it.
        figures: folder for a picture of every scene.
        pixels: whose spectra the pictures show, up to four as ROW,COLUMN; by default four of unlike colour.
        save_cubes: folder for the predicted cubes, as .mat.
    """

    checkpoint: Path
    dataset: Literal["synthetic", "cave", "ntire2022", "ntire2020_clean", "ntire2020_real"] | None = None
    data_root: str | None = None
    split_file: str | None = None
    camera: str | None = None
    protocol: str | None = None
    which: Literal["best", "latest"] = "best"
    output: Path | None = None
    figures: Path | None = None
    pixels: tuple[str, ...] = ()
    save_cubes: Path | None = None

    def run(self) -> None:
        """Prints the table, and writes what it is asked to.

        Raises:
            InputError: The checkpoint, the data, the protocol or a place to write to cannot be used.
        """
        from m3sr_jax.checkpoint import load_model
        from m3sr_jax.data.open import open_dataset
        from m3sr_jax.evaluation.protocols import get_protocol
        from m3sr_jax.processes import is_writer, on_writer, writer_first

        pixels, output = parse_pixels(self.pixels), self.output
        self.join()
        if output is not None:
            on_writer(lambda: _check_output(output))
        model, params, card = load_model(self.checkpoint, self.which)
        config = self._data_config()
        protocol = get_protocol(self.protocol or config.name)
        dataset = writer_first(lambda: open_dataset(config, cache_bytes=0))  # every scene is wanted once
        check_fit(card, dataset)
        if dataset.missing and is_writer():
            print(f"WARNING: {len(dataset.missing)} files or scenes of the official split are missing")
        observe = self._observer(card, pixels)
        reports = _score(_predictor(model, params, card), dataset, protocol, card.model.name, observe)
        on_writer(lambda: self._tell(reports, dataset, card))

    def _tell(self, reports: list[Report], dataset: Dataset, card: ModelCard) -> None:
        """Prints the table, and writes it where that is asked for."""
        from rich.console import Console

        from m3sr_jax.evaluation.published import published_rows
        from m3sr_jax.evaluation.report import model_facts, write_tables
        from m3sr_jax.evaluation.tables import score_table

        facts = model_facts(card)
        Console().print(score_table(reports, published_rows(dataset.name, facts)))
        if self.output is not None:
            write_tables(self.output, reports, dataset=dataset, model=facts)
            print(f"wrote {self.output}, and beside it .md, .csv and .tex")

    def _observer(self, card: ModelCard, pixels: Sequence[tuple[int, int]]) -> Observe:
        """Saves and draws the scenes as they go by, as far as asked for."""
        for folder in (self.figures, self.save_cubes):
            if folder is not None:
                _make_folder(folder)

        def observe(scene: Scene, cubes: Mapping[str, np.ndarray]) -> None:
            if self.save_cubes is not None:
                from m3sr_jax.io import write_cube

                write_cube(self.save_cubes / f"{scene.name}.mat", cubes[card.model.name], scene.wavelengths)
            if self.figures is not None:
                from m3sr_jax.evaluation.report import write_figure

                write_figure(self.figures / f"{scene.name}.png", scene, cubes, card.model.name, pixels)

        return observe

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
            f'normalised by "{source.rgb_normalization}"; a converted checkpoint that was trained on such photos needs '
            f"`m3sr convert --rgb-normalization {source.rgb_normalization}`"
        )


def parse_pixels(texts: Sequence[str]) -> list[tuple[int, int]]:
    """'120,64' → (120, 64), of up to four.

    Raises:
        InputError: something else.
    """
    pixels = []
    for text in texts:
        row, comma, column = text.partition(",")
        if not (row.isdigit() and comma and column.isdigit()) or len(texts) > 4:
            raise InputError(f"--pixels {' '.join(texts)}: expected up to four, each as ROW,COLUMN")
        pixels.append((int(row), int(column)))
    return pixels


def _check_output(path: Path) -> None:
    """A minute's evaluation should not end in a path that cannot be written."""
    if path.suffix != ".json":
        raise InputError(f"{path}: expected a name that ends in .json")
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; expected a file in an existing, writable folder")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror})") from error


def _predictor(model: Any, params: Any, card: ModelCard) -> Predict:
    import jax

    from m3sr_jax.inference.predict import normalise_rgb, predict

    on_device = jax.device_put(params)

    def run(rgb: np.ndarray) -> np.ndarray:
        return predict(model, on_device, normalise_rgb(rgb, card.rgb_normalization))

    return run


def _score(predict_fn: Predict, dataset: Dataset, protocol: Protocol, name: str, observe: Observe) -> list[Report]:
    from rich.progress import Progress

    from m3sr_jax.evaluation.evaluate import evaluate_all, fit_baselines
    from m3sr_jax.processes import is_writer

    with Progress(transient=True, disable=not is_writer()) as progress:
        task = progress.add_task("fitting least squares", total=None)
        methods = {name: predict_fn} | fit_baselines(dataset)
        progress.update(task, description="scoring", total=len(dataset.valid))
        return evaluate_all(methods, dataset.valid, protocol, partial(advance, progress, task), observe=observe)
