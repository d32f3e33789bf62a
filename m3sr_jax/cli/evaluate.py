"""`m3sr evaluate`: scores a checkpoint on held-out scenes, beside least-squares fits on the training scenes."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m3sr_jax.checkpoint import Which
from m3sr_jax.cli.data_options import DataOptions
from m3sr_jax.cli.processes import Processes
from m3sr_jax.cli.progress import progress_bar
from m3sr_jax.config import names
from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from m3sr_jax.config import DataConfig
    from m3sr_jax.data.scenes import Dataset, Scene
    from m3sr_jax.evaluation.evaluate import Observe, Predict, Report
    from m3sr_jax.evaluation.protocols import Protocol
    from m3sr_jax.model_card import ModelCard


@dataclasses.dataclass(frozen=True)
class Evaluate(DataOptions, Processes):
    """Score a checkpoint on held-out scenes, beside least-squares fits on the training scenes of the same data set.

    Attributes:
        checkpoint: a training workdir, or a folder that m3sr convert wrote.
        dataset: which data set; by default the one that the run was trained on.
        protocol: terms of the scores: ntire2022, ntire2020, cave, synthetic, photo or full_frame; by default those of
            the data set.
        which: of a training workdir, the checkpoint with the best PSNR or the latest.
        output: JSON file for the scores; tables are written beside it as .md, .csv and .tex.
        figures: folder for a picture of each scene.
        pixels: pixels whose spectra the pictures show, up to four as ROW,COLUMN; by default four of different colours.
        save_cubes: folder for the predicted cubes, as .mat.
        exposures: also score photos of these exposures, such as 0.5 1 2; predictions are divided by them.
    """

    checkpoint: Path
    dataset: names.Dataset | None = None
    protocol: str | None = None
    which: Which = "best"
    output: Path | None = None
    figures: Path | None = None
    pixels: tuple[str, ...] = ()
    save_cubes: Path | None = None
    exposures: tuple[float, ...] = ()

    def run(self) -> None:
        """Prints the scores, and writes the files that were asked for.

        Raises:
            InputError: the checkpoint, the data, the protocol or an output cannot be used.
        """
        from m3sr_jax.data.open import open_dataset
        from m3sr_jax.evaluation.compatibility import check_compatible
        from m3sr_jax.evaluation.exposures import check_exposures, evaluate_exposures
        from m3sr_jax.evaluation.protocols import get_protocol
        from m3sr_jax.inference.predictor import load, run_network
        from m3sr_jax.io.normalization import normalise_rgb
        from m3sr_jax.processes import is_writer, on_writer, writer_first

        pixels, output = parse_pixels(self.pixels), self.output
        if pixels and self.figures is None:
            raise InputError(f"--pixels {' '.join(self.pixels)}: needs a folder for the pictures, --figures")
        self.join()
        if output is not None:
            on_writer(lambda: check_output(output))
        predictor = load(self.checkpoint, self.which)
        card = predictor.card
        config = self._scored_config()
        protocol = get_protocol(self.protocol or config.name)
        # Each scene is read once.
        dataset = writer_first(lambda: open_dataset(config, cache_bytes=0, required=["valid"]))
        check_compatible(card, dataset, self.checkpoint)
        check_exposures(self.exposures, dataset)
        self._check_targets(dataset)
        if is_writer():
            for note in _notes(dataset):
                print(note)

        def predict(rgb: np.ndarray) -> np.ndarray:
            return run_network(predictor.model, predictor.params, normalise_rgb(rgb, card.rgb_normalization))

        methods = {card.model.name: predict} | _fits(dataset)
        reports = _score(methods, dataset, protocol, self._observer(card, pixels))
        exposed = evaluate_exposures(methods, dataset, protocol, self.exposures)
        on_writer(lambda: self._print_and_write(reports, exposed, dataset, card))

    def _print_and_write(
        self, reports: list[Report], exposed: dict[float, list[Report]], dataset: Dataset, card: ModelCard
    ) -> None:
        from rich.console import Console

        from m3sr_jax.evaluation.exposures import exposure_means, exposure_table
        from m3sr_jax.evaluation.published import published_rows
        from m3sr_jax.evaluation.report import dataset_facts, model_facts, write_tables
        from m3sr_jax.evaluation.tables import score_table

        facts = model_facts(card)
        published = published_rows(dataset.name, facts)
        Console().print(score_table(reports, published), crop=False)
        if exposed:
            Console().print(exposure_table(exposed), crop=False)
        if self.output is not None:
            extra = {"exposures": exposure_means(exposed)} if exposed else {}
            write_tables(
                self.output, reports, dataset=dataset_facts(dataset), model=facts, published=published, extra=extra
            )
            print(f"wrote {self.output}, and .md, .csv and .tex beside it")

    def _check_targets(self, dataset: Dataset) -> None:
        """Refuses folders where a cube or a picture would replace a file of the data set."""
        from m3sr_jax.data.pairs import PairReader

        if not isinstance(dataset.valid.read, PairReader):  # stores and CAVE have no files of a scene's name
            return
        inputs = {path.resolve() for files in dataset.valid.read.scenes for path in (files.cube, files.photo) if path}
        for option, folder, suffix in (("save-cubes", self.save_cubes, "mat"), ("figures", self.figures, "png")):
            files = [folder / f"{name}.{suffix}" for name in dataset.valid.names] if folder else []
            for file in files:
                if file.resolve() in inputs:
                    raise InputError(f"{file}: is a file of the data set; choose another folder for --{option}")

    def _observer(self, card: ModelCard, pixels: Sequence[tuple[int, int]]) -> Observe:
        """Returns what saves and draws each scene, if that was asked for."""
        for folder in (self.figures, self.save_cubes):
            if folder is not None:
                create_folder(folder)

        def observe(scene: Scene, cubes: Mapping[str, np.ndarray]) -> None:
            if self.save_cubes is not None:
                from m3sr_jax.io import write_cube

                write_cube(self.save_cubes / f"{scene.name}.mat", cubes[card.model.name], scene.wavelengths)
            if self.figures is not None:
                from m3sr_jax.evaluation.report import write_figure

                write_figure(self.figures / f"{scene.name}.png", scene, cubes, card.model.name, pixels)

        return observe

    def _scored_config(self) -> DataConfig:
        """Returns the data set of the options, or the one that the run was trained on."""
        from m3sr_jax.config import DataConfig, load_config

        trained = self.checkpoint / "config.json"
        base = load_config(trained).data if trained.is_file() else None
        if self.dataset is not None and (base is None or base.name != self.dataset):
            base = DataConfig(name=self.dataset)
        if base is None:
            raise InputError(f"{self.checkpoint}: does not say what it was trained on; pass --dataset")
        return self.data_config(base)


def parse_pixels(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns (row, column) for each 'ROW,COLUMN'.

    Raises:
        InputError: a text has another form, or there are more than four.
    """
    pixels = []
    for text in texts:
        found = re.fullmatch("([0-9]{1,9}),([0-9]{1,9})", text)
        if found is None or len(texts) > 4:
            raise InputError(f"--pixels {' '.join(texts)}: expected up to four, each as ROW,COLUMN")
        pixels.append((int(found[1]), int(found[2])))
    return pixels


def _notes(dataset: Dataset) -> list[str]:
    """Returns the lines that a user should read before the scores."""
    from m3sr_jax.data.check import first_oddities

    lines = [f"note: {note}" for note in dataset.notes]
    lines += [f"WARNING: {oddity}" for oddity in first_oddities(dataset.valid)]
    if not len(dataset.train):
        lines.append("note: no training scenes are present, so the table has no least-squares rows")
    if dataset.missing:
        lines.append(f"WARNING: {len(dataset.missing)} files or scenes of the official split are missing")
    return lines


def check_output(path: Path) -> None:
    """Refuses an output that cannot be written before the evaluation takes its minutes."""
    if path.suffix != ".json":
        raise InputError(f"{path}: expected a name that ends in .json")
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{path}: cannot be written; expected a file in an existing, writable folder")


def create_folder(path: Path) -> None:
    """Creates a folder, unless it exists."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror}); choose another folder") from error


def _fits(dataset: Dataset) -> dict[str, Predict]:
    from m3sr_jax.evaluation.evaluate import fit_baselines
    from m3sr_jax.processes import is_writer

    with progress_bar("fitting least squares", shown=is_writer()):
        return fit_baselines(dataset)


def _score(methods: Mapping[str, Predict], dataset: Dataset, protocol: Protocol, observe: Observe) -> list[Report]:
    from m3sr_jax.evaluation.evaluate import evaluate_all
    from m3sr_jax.processes import is_writer

    with progress_bar("scoring", shown=is_writer()) as progress:
        return evaluate_all(methods, dataset.valid, protocol, progress, observe=observe)
