"""`m3sr convert`: converts a release checkpoint to this package's format, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from m3sr_jax.checkpoint import Which
from m3sr_jax.errors import InputError
from m3sr_jax.io.normalization import RgbNormalization
from m3sr_jax.processes import start_jax

if TYPE_CHECKING:
    from m3sr_jax.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert a release checkpoint (.pth, .safetensors) to a model folder, or a model folder to a release checkpoint.

    Attributes:
        source: a release checkpoint; or, to convert back, a folder with model.json, such as a training workdir.
        output: the folder to create; or, to convert back, a .pth or .safetensors file.
        rgb_normalization: how the RGB was scaled that the weights were trained on: unit (divided by 255), or minmax
            over each image, as for NTIRE 2022. The checkpoint does not say; converting again with --overwrite corrects
            a wrong choice.
        wavelengths: centres of the first and the last band in nm; those between are evenly spaced.
        camera: the camera response behind that RGB, for the record.
        which: of a training workdir, the checkpoint with the best PSNR or the latest.
        overwrite: replace an existing output.
    """

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    output: Annotated[Positional[Path], arg(metavar="OUTPUT")]
    rgb_normalization: RgbNormalization = "unit"
    wavelengths: tuple[float, float] = (400.0, 700.0)
    camera: str = ""
    which: Which = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Converts and prints a summary.

        Raises:
            InputError: the source cannot be read, its parameters do not fit, or the output cannot be written.
        """
        start_jax()
        if self.source.is_dir():
            self._to_release()
        else:
            self._from_release()

    def _from_release(self) -> None:
        import numpy as np

        from m3sr_jax.checkpoint import save_model
        from m3sr_jax.convert import infer_model, params_from_release, read_release
        from m3sr_jax.model_card import ModelCard
        from m3sr_jax.models import build_model

        state_dict = read_release(self.source)
        try:
            fields = infer_model(state_dict)
            params = params_from_release(state_dict, build_model(fields))
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from error
        params = _float32(params)
        first, last = self.wavelengths
        if not 0 < first < last:
            raise InputError(f"--wavelengths {first:g} {last:g}: expected the centres of the first and last band in nm")
        assert fields.num_bands is not None  # the release's tensors tell it
        wavelengths = tuple(np.linspace(first, last, fields.num_bands).tolist())
        provenance = {"converted_from": self.source.name, "source": str(self.source)}
        card = ModelCard(fields, wavelengths, self.rgb_normalization, self.camera, provenance)
        save_model(self.output, card, params, overwrite=self.overwrite)
        _print_summary(self.output, fields, params)

    def _to_release(self) -> None:
        from m3sr_jax.checkpoint import load_model
        from m3sr_jax.convert import params_to_release
        from m3sr_jax.convert.write import SUFFIXES, write_release

        if self.output.suffix not in SUFFIXES:
            raise InputError(f"{self.output}: expected a name that ends in {' or '.join(SUFFIXES)}")
        if self.output.exists() and not self.overwrite:
            raise InputError(f"{self.output}: already exists; choose another name or pass --overwrite")
        model, params, card = load_model(self.source, self.which)
        params = _float32(params)
        write_release(self.output, params_to_release(params, model))
        _print_summary(self.output, card.model, params)


def _float32(params: Any) -> Any:
    import jax
    import numpy as np

    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)


def _print_summary(output: Path, fields: ModelConfig, params: Any) -> None:
    import jax

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    names = ["num_bands"]
    if fields.name == "m3sr":
        names = ["num_groups", "num_stages", "num_blocks", "branches", "num_bands", "features"]
    described = ", ".join(f"{name} {getattr(fields, name)}" for name in names)
    print(f"wrote {output}: {fields.name}, {count:,} parameters; {described}")
