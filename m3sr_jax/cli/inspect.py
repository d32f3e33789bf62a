"""`m3sr inspect`: shows a model's parameters and its cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from m3sr_jax.errors import InputError
from m3sr_jax.processes import start_jax

if TYPE_CHECKING:
    from m3sr_jax.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Show a model's parameters and its cost in parameters and operations; by default the published M3SR.

    Attributes:
        checkpoint: a training workdir, or a folder that m3sr convert wrote.
        config: a config file instead, such as configs/cave.py or configs/ntire2022.py:groups8.
        height: image height in pixels that operations are counted for.
        width: image width in pixels.
        summary: omit the table of all parameters.
        measure: also compile and run the model, for time and activation memory on this machine.
    """

    checkpoint: Path | None = None
    config: Path | None = None
    height: int = 482
    width: int = 512
    summary: bool = False
    measure: bool = False

    def run(self) -> None:
        """Prints the tables.

        Raises:
            InputError: the checkpoint, the config or the size cannot be used, or checkpoint and config are both given.
        """
        from clu.parameter_overview import get_parameter_overview
        from rich.console import Console

        from m3sr_jax.cost.count import cost_report, cost_table
        from m3sr_jax.models import build_model, parameter_shapes

        start_jax()
        model = build_model(self._model_config())
        try:
            report = cost_report(model, self.height, self.width)
        except ValueError as error:
            raise InputError(str(error)) from error
        if not self.summary:
            print(get_parameter_overview(parameter_shapes(model), include_stats=False))
        Console().print(cost_table(report))
        if self.measure:
            from m3sr_jax.cost.measure import measure_forward

            print(measure_forward(model, self.height, self.width).describe())

    def _model_config(self) -> ModelConfig:
        from m3sr_jax.config import ModelConfig, load_config
        from m3sr_jax.model_card import read_card

        if self.checkpoint is not None and self.config is not None:
            raise InputError("--checkpoint and --config: found both, expected one of them")
        if self.checkpoint is not None:
            return read_card(self.checkpoint).model
        return load_config(self.config).model if self.config is not None else ModelConfig()
