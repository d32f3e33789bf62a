"""`m3sr compare`: evaluations of several checkpoints in one table, with a paired test."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from m3sr_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Compare:
    """Show evaluations side by side, and test each against the first, scene by scene.

    Attributes:
        reports: two or more JSON files that m3sr evaluate --output wrote under one protocol.
    """

    reports: Annotated[Positional[tuple[Path, ...]], arg(metavar="A.json B.json …")]

    def run(self) -> None:
        """Prints both tables.

        Raises:
            InputError: there are fewer than two reports, one is unreadable, or they are not comparable.
        """
        from rich.console import Console

        from m3sr_jax.evaluation.compare import comparison_tables, data_notes, read_evaluation

        if len(self.reports) < 2:
            raise InputError(f"m3sr compare: found {len(self.reports)} report, expected two or more")
        evaluations = [read_evaluation(path) for path in self.reports]
        labels = [evaluation.label for evaluation in evaluations]
        if len(set(labels)) < len(labels):  # such as report.json of several runs
            names = _distinct_names(self.reports)
            evaluations = [dataclasses.replace(e, label=name) for e, name in zip(evaluations, names, strict=True)]
        tables = comparison_tables(evaluations)
        for note in data_notes(evaluations):
            print(f"note: {note}")
        for table in tables:
            Console().print(table, crop=False)


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of the paths that tell them apart, without suffix."""
    parts = [(*path.parent.parts, path.stem) for path in paths]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path.with_suffix("")) for path in paths]
