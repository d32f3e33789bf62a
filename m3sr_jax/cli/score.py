"""`m3sr score`: the field's metrics for cubes on disk, from any tool."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from m3sr_jax.errors import shortened
from m3sr_jax.processes import start_jax

if TYPE_CHECKING:
    from m3sr_jax.evaluation.evaluate import Report
    from m3sr_jax.evaluation.score import Compared


@dataclasses.dataclass(frozen=True)
class Score:
    """Score predicted cubes against true ones; no checkpoint is needed.

    Attributes:
        prediction: a cube, or a folder of cubes.
        truth: the true cube; or a folder, whose cubes are matched by name: clay.mat, clay.npz or clay_hsi.mat.
        protocol: terms of the scores: full_frame, ntire2022, ntire2020, cave or synthetic.
        output: JSON file for the scores; tables are written beside it as .md, .csv and .tex.
        figures: folder for a picture of each scene: error map, bands and spectra.
        label: what tables call the prediction; by default its file or folder name.
        key: name of the array that holds a predicted cube.
        white: the stored number that is 1 in the predicted cubes, such as 100 for percent.
        truth_key: name of the array that holds a true cube.
        truth_white: the stored number that is 1 in the true cubes, such as 4095.
        wavelengths: of the bands in nm, 400:700:10, a list or a file, in place of those of all files.
    """

    prediction: Annotated[Positional[Path], arg(metavar="PREDICTION")]
    truth: Annotated[Positional[Path], arg(metavar="TRUTH")]
    protocol: str = "full_frame"
    output: Path | None = None
    figures: Path | None = None
    label: str = ""
    key: str | None = None
    white: float | None = None
    truth_key: str | None = None
    truth_white: float | None = None
    wavelengths: str | None = None

    def run(self) -> None:
        """Prints the scores, and writes the files that were asked for.

        Raises:
            InputError: a file cannot be read, the cubes do not match, or an output cannot be written.
        """
        from m3sr_jax.cli.evaluate import check_output, create_folder
        from m3sr_jax.data.pairs import CubeFormat
        from m3sr_jax.evaluation.protocols import get_protocol
        from m3sr_jax.evaluation.score import match_cubes, read_pair, score_cubes

        start_jax()
        protocol = get_protocol(self.protocol)
        if self.output is not None:
            check_output(self.output)
        if self.figures is not None:
            create_folder(self.figures)
        pairs, alone = match_cubes(self.prediction, self.truth)
        for path in alone:
            print(f"not scored, no cube of the same name: {path}")
        found = CubeFormat(self.key, self.wavelengths, self.white)
        true = CubeFormat(self.truth_key, self.wavelengths, self.truth_white)
        for note in (*found.notes(pairs[0].prediction), *true.notes(pairs[0].truth)):
            print(f"note: {note}")
        read = partial(read_pair, read_prediction=found.read, read_truth=true.read)
        prediction = Path(os.path.abspath(self.prediction))  # "." alone has no name
        label = self.label or (prediction.name if prediction.is_dir() else prediction.stem)
        oddities: dict[str, list[str]] = {}
        observe = partial(_observe, oddities, self.figures, label)
        report, bands = score_cubes(pairs, read, protocol, label, observe)
        for oddity, names in oddities.items():
            print(f"note: {oddity}: {shortened(names, 5)}")
        self._print_and_write(report, bands, len(alone))

    def _print_and_write(self, report: Report, bands: list[float] | None, alone: int) -> None:
        from rich.console import Console

        from m3sr_jax.evaluation.report import write_tables
        from m3sr_jax.evaluation.tables import score_table

        Console().print(score_table([report]), crop=False)
        if self.output is not None:
            facts = {"name": Path(os.path.abspath(self.truth)).name, "truth": str(self.truth), "without_partner": alone}
            facts |= {"wavelengths": bands} if bands is not None else {}
            write_tables(self.output, [report], dataset=facts, model={"prediction": str(self.prediction)})
            print(f"wrote {self.output}, and .md, .csv and .tex beside it")


def _observe(
    oddities: dict[str, list[str]], figures: Path | None, label: str, both: Compared, scores: dict[str, float]
) -> None:
    """Notes what is odd about a true cube and about the prediction's unit, and draws the pair if asked to."""
    from m3sr_jax.data.check import cube_oddities
    from m3sr_jax.evaluation.score import write_error_figure

    for oddity in cube_oddities(both.truth) + _another_unit(both):
        oddities.setdefault(oddity, []).append(both.pair.name)
    if figures is not None:
        write_error_figure(figures / f"{both.pair.name}.png", both, scores, label)


def _another_unit(both: Compared) -> list[str]:
    """Compares means: the medians of scenes before a black background say little."""
    prediction, truth = float(both.prediction.mean()), float(both.truth.mean())
    if truth <= 0 or truth / 3 <= prediction <= 3 * truth:
        return []
    times = float(f"{prediction / truth:.1g}")
    return [f"the prediction is about {times:g} times the truth on average: another unit? (--white, --truth-white)"]
