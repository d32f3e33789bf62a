"""Scalars over time: one JSON object a line in metrics.jsonl, and TensorBoard on request.

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
    """Appends to WORKDIR/metrics.jsonl; a resumed run first drops the lines that it will write again."""

    def __init__(self, workdir: Path, *, last_step: int, tensorboard: bool = False) -> None:
        """Opens the file and drops lines after the restored checkpoint.

        Args:
            workdir: folder of metrics.jsonl.
            last_step: step of the restored checkpoint; later lines are dropped.
            tensorboard: also write event files to WORKDIR/tensorboard.

        Raises:
            InputError: TensorBoard is requested and tensorboardX is not installed.
        """
        path = workdir / METRICS_FILE
        records = read_metrics(path, last_step=last_step)
        self._last: dict[str, int] = {}  # not the lines themselves, which would fill memory in a long run
        for record in records:
            self._remember(record)
        # Replaced as a whole: a kill at this point must not lose the lines so far.
        write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        self._board = _tensorboard(workdir, last_step) if tensorboard else None
        self._file = path.open("a", buffering=1)  # a line at a time, for those who watch

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one line; NaN and infinities, which JSON cannot represent, become null."""
        values = {name: float(value) for name, value in scalars.items()}
        record = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._remember(record)
        self._file.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Shows the configuration in TensorBoard; on disk it is config.json."""
        if self._board is not None:
            self._board.add_text("config", "```\n" + json.dumps(hparams, indent=2) + "\n```")

    def has(self, name: str, step: int | None = None) -> bool:
        """Returns whether a scalar was ever written, or, with `step`, whether it was last written at that step."""
        return name in self._last and step in (None, self._last[name])

    def _remember(self, record: Mapping[str, Any]) -> None:
        self._last |= dict.fromkeys(record, int(record["step"]))

    def flush(self) -> None:
        """Hands the lines to the operating system, which keeps them if this process is killed."""
        self._file.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path, *, last_step: int | None = None) -> list[dict[str, Any]]:
    """Returns the records of a metrics.jsonl, up to `last_step`; skips damaged lines, such as one a kill cut off."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        step = record.get("step") if isinstance(record, dict) else None
        if isinstance(step, int) and (last_step is None or step <= last_step):
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
