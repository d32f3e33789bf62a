"""`m3sr export`: writes a model that runs without this package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from m3sr_jax.checkpoint import Which
from m3sr_jax.processes import start_jax


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a model as a folder that runs with JAX alone, on CPU and CUDA, for any batch size, height and width.

    The folder contains the program (model.jaxexport, StableHLO), the parameters (params.safetensors, with model.json
    and the encoding of the input in its metadata) and run.py, a short script that runs them. Height and width must be
    multiples of 8.

    Attributes:
        output: the folder to create.
        checkpoint: a training workdir, or a folder that m3sr convert wrote; by default the model for any photo that
            comes with the package.
        which: of a training workdir, the checkpoint with the best PSNR or the latest.
        overwrite: replace an earlier exported program.
    """

    output: Path
    checkpoint: Path | None = None
    which: Which = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Exports the model.

        Raises:
            InputError: the checkpoint or the output cannot be used, or the network cannot be exported.
        """
        from m3sr_jax.checkpoint import load_model
        from m3sr_jax.export import INPUTS, export_model
        from m3sr_jax.inference.predictor import NETWORK

        start_jax()
        model, params, card = load_model(NETWORK if self.checkpoint is None else self.checkpoint, self.which)
        export_model(self.output, model, params, card, overwrite=self.overwrite)
        print(f"the program takes {INPUTS[card.encoding]}")
        print(f"wrote {self.output}; to use it, python {self.output / 'run.py'} RGB.npy CUBE.npy")
