"""`m3sr export`: a model that runs without this package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Export:
    """Make a folder that runs a model with JAX alone, on CPU and CUDA, for any batch, height and width.

    It holds the program (model.jaxexport, StableHLO), the parameters (params.safetensors, with model.json in its
    metadata) and run.py, ten lines that use them. Height and width are multiples of 8.

    Attributes:
        checkpoint: a training workdir, or what m3sr convert wrote.
        output: the folder to make.
        which: of a training run, the checkpoint with the best validation PSNR or the latest.
    """

    checkpoint: Path
    output: Path
    which: Literal["best", "latest"] = "best"

    def run(self) -> None:
        """Exports.

        Raises:
            InputError: the checkpoint or the output cannot be used, or the network not be exported.
        """
        from m3sr_jax.checkpoint import load_model
        from m3sr_jax.export import export_model

        model, params, card = load_model(self.checkpoint, self.which)
        export_model(self.output, model, params, card)
        print(f"wrote {self.output}: python {self.output / 'run.py'} RGB.npy CUBE.npy")
