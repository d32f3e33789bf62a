"""`m3sr convert`: a release checkpoint to ours, or ours to the release's."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from m3sr_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from m3sr_jax.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class Convert:
    """Turn a release checkpoint (.pth, .safetensors) into a folder that evaluate and train read, or such a folder back.

    Attributes:
        source: a release checkpoint; or a folder with model.json, a training workdir included, to go the other way.
        output: the folder to make; or, the other way, the .pth or .safetensors file.
        rgb_normalization: how the RGB that the weights were trained on was scaled: unit (divided by 255), or minmax
            over each image, as for NTIRE 2022. The checkpoint does not say.
        wavelengths: centres of the first and the last band in nm; those between are evenly spaced.
        camera: what the RGB was taken with, for the record.
        which: the checkpoint of a training workdir, the best by PSNR or the latest.
        overwrite: replace an earlier output.
    """

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    output: Annotated[Positional[Path], arg(metavar="OUTPUT")]
    rgb_normalization: Literal["unit", "minmax"] = "unit"
    wavelengths: tuple[float, float] = (400.0, 700.0)
    camera: str = ""
    which: Literal["best", "latest"] = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Converts, and says what it found.

        Raises:
            InputError: the source cannot be read, its parameters do not fit, or the output cannot be written.
        """
        if self.source.is_dir():
            self._to_release()
        else:
            self._from_release()

    def _from_release(self) -> None:
        import jax
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
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
        first, last = self.wavelengths
        if not 0 < first < last:
            raise InputError(f"--wavelengths {first:g} {last:g}: expected the first and the last band's centre in nm")
        wavelengths = tuple(np.linspace(first, last, fields.num_bands).tolist())
        provenance = {"converted_from": self.source.name}
        card = ModelCard(fields, wavelengths, self.rgb_normalization, self.camera, provenance)
        save_model(self.output, card, params, overwrite=self.overwrite)
        _say(self.output, fields, params)

    def _to_release(self) -> None:
        from m3sr_jax.checkpoint import load_model
        from m3sr_jax.convert import params_to_release

        if self.output.suffix not in (".pth", ".safetensors"):
            raise InputError(f"{self.output}: expected a name that ends in .pth or .safetensors")
        if self.output.exists() and not self.overwrite:
            raise InputError(f"{self.output}: is there already; give another name or --overwrite")
        model, params, card = load_model(self.source, self.which)
        _write_release(self.output, params_to_release(params, model))
        _say(self.output, card.model, params)


def _write_release(path: Path, state_dict: dict[str, np.ndarray]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save

            temporary.write_bytes(save(state_dict))  # save_file's are private
        else:
            torch = _torch(path)
            torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state_dict.items()}}, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where a folder is missing
        raise InputError(f"{path}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: writing it takes PyTorch; run `pip install torch`, or name a .safetensors file"
        ) from error
    return torch


def _say(output: Path, fields: ModelConfig, params: Any) -> None:
    import jax

    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    told = ["num_bands"]
    if fields.name == "m3sr":
        told = ["num_groups", "num_stages", "num_blocks", "branches", "num_bands", "features"]
    described = ", ".join(f"{name} {getattr(fields, name)}" for name in told)
    print(f"wrote {output}: {fields.name}, {count:,} parameters; {described}")
