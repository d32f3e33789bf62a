"""Scalars over time: one JSON object a line in metrics.jsonl, and TensorBoard where it is asked for.

The method names are those of `clu.metric_writers`, whose own writers need TensorFlow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricWriter:
    """Appends to WORKDIR/metrics.jsonl; a resumed run first loses the lines it is about to write again."""

    def __init__(self, workdir: Path, *, last_step: int, tensorboard: bool = False) -> None:
        """Opens the file and drops what does not belong to the run so far.

        Args:
            workdir: holds metrics.jsonl, or will.
            last_step: step of the restored checkpoint; later lines are dropped.
            tensorboard: also write event files to WORKDIR/tensorboard.

        Raises:
            InputError: TensorBoard is asked for and tensorboardX is not installed.
        """
        path = workdir / METRICS_FILE
        records = read_metrics(path, last_step=last_step)
        self._last: dict[str, int] = {}  # all lines of a long run would fill memory
        for record in records:
            self._remember(record)
        # Whole and at once: a kill in here must not cost the lines of the run so far.
        write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        self._board = _tensorboard(workdir, last_step) if tensorboard else None
        self._file = path.open("a", buffering=1)  # by lines, for those who watch

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one line; NaN and infinities, which JSON has not, become null."""
        values = {name: float(value) for name, value in scalars.items()}
        record = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._remember(record)
        self._file.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Shows the configuration in TensorBoard; beside metrics.jsonl it is config.json."""
        if self._board is not None:
            self._board.add_text("config", "```\n" + json.dumps(hparams, indent=2) + "\n```")

    def has(self, name: str, step: int | None = None) -> bool:
        """Tells whether a scalar was written at all, or, with `step`, whether that was the last step that wrote it."""
        return name in self._last and step in (None, self._last[name])

    def _remember(self, record: Mapping[str, Any]) -> None:
        self._last |= dict.fromkeys(record, int(record["step"]))

    def flush(self) -> None:
        """Hands the lines to the operating system, which keeps them when this process is killed."""
        self._file.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path, *, last_step: int | None = None) -> list[dict[str, Any]]:
    """Returns the records of a metrics.jsonl, up to `last_step`; a line cut off by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if last_step is None or record["step"] <= last_step:
            records.append(record)
    return records


def _tensorboard(workdir: Path, last_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(
            "config field train.tensorboard: tensorboardX is not installed; pip install 'm3sr-jax[tensorboard]'"
        ) from error
    return SummaryWriter(str(workdir / "tensorboard"), purge_step=last_step + 1)
