"""Exports a model as one program for any image size that runs without this package.

`export_model` writes DIR/model.jaxexport (the program, StableHLO by `jax.export`), DIR/params.safetensors (the
parameters, with model.json and the encoding of the input in the metadata) and DIR/run.py (a short script that runs
them with JAX alone).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from jaxtyping import Array, Float

from m3sr_jax.errors import InputError, one_line
from m3sr_jax.io.encoding import Encoding
from m3sr_jax.io.files import written_folder
from m3sr_jax.io.normalization import normalise_rgb
from m3sr_jax.model_card import MODEL_FILE, PROGRAM_FILE, ModelCard
from m3sr_jax.models import with_scans

PROGRAM, PARAMS, SCRIPT = PROGRAM_FILE, "params.safetensors", "run.py"
PLATFORMS = ("cpu", "cuda")
INPUTS: dict[Encoding, str] = {
    "codes": "RGB in [0, 1] as the training data store it",
    "linear": "linear RGB in [0, 1], proportional to light in sRGB's primaries: decode photos first",
    "srgb": "sRGB in [0, 1] as photos store it",
}

RUN_PY = '''\
"""usage: python run.py RGB.npy CUBE.npy: float32 (B, H, W, 3) in [0, 1], H and W multiples of 8, to (B, H, W, bands)"""
import json, pathlib, sys
if len(sys.argv) != 3:
    sys.exit(__doc__)
import jax.export, numpy as np  # jax.export reads programs with flatbuffers: pip install jax flatbuffers
try:
    rgb = np.load(sys.argv[1])
except (OSError, ValueError) as error:
    sys.exit(f"{sys.argv[1]}: not a readable .npy file ({error})")
shape, dtype = np.shape(rgb), getattr(rgb, "dtype", None)
if len(shape) != 4 or shape[3] != 3 or not all(shape) or shape[1] % 8 or shape[2] % 8 or dtype != np.float32:
    sys.exit(f"{sys.argv[1]}: found {dtype} {shape}, expected float32 (B, H, W, 3) with H and W multiples of 8")
here = pathlib.Path(__file__).parent
blob = (here / "params.safetensors").read_bytes()
table, data = json.loads(blob[8 : (start := 8 + int.from_bytes(blob[:8], "little"))]), blob[start:]
card = json.loads(table.pop("__metadata__")["model.json"])
params = {k: np.frombuffer(data[slice(*v["data_offsets"])], "<f4").reshape(v["shape"]) for k, v in table.items()}
program = jax.export.deserialize((here / "model.jaxexport").read_bytes())
np.save(name := sys.argv[2].removesuffix(".npy") + ".npy", program.call(params, rgb))
print("wrote", name, "from", card["encoding"], "RGB, with bands at", card["wavelengths"], "nm")
'''


def export_model(
    directory: str | os.PathLike[str], model: nn.Module, params: Any, card: ModelCard, *, overwrite: bool = False
) -> None:
    """Writes program, parameters and script; the directory appears whole or not at all.

    Args:
        directory: a new directory; missing parents are created.
        model: the network.
        params: its parameters.
        card: stored with the parameters. Its RGB normalisation becomes part of the program, its encoding does not: the
            program takes what `INPUTS` says.
        overwrite: replace an exported program, but no folder that holds anything else.

    Raises:
        InputError: the directory exists or cannot be written, or the network cannot be exported.
    """
    from safetensors.numpy import save

    target = Path(directory).absolute()
    if target.exists():
        if not overwrite:
            raise InputError(f"{target}: already exists; choose another directory or pass --overwrite")
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if PROGRAM not in names or names - {PROGRAM, PARAMS, SCRIPT}:
            raise InputError(f"{target}: is not an exported program and nothing else; choose another directory")
    flat = {name: np.asarray(leaf, np.float32) for name, leaf in flatten_dict(params, sep="/").items()}
    program = export_program(model, flat, card.rgb_normalization)
    with written_folder(target) as folder:
        (folder / PROGRAM).write_bytes(program.serialize())
        # Not `save_file`, whose files only their owner can read.
        metadata = {MODEL_FILE: card.to_json(), "encoding": card.encoding, "input": INPUTS[card.encoding]}
        (folder / PARAMS).write_bytes(save(flat, metadata=metadata))
        (folder / SCRIPT).write_text(RUN_PY)


def export_program(model: nn.Module, params: dict[str, np.ndarray], rgb_normalization: str) -> export.Exported:
    """Traces (parameters by path, rgb) → cube for any batch size and any height and width that are multiples of 8.

    Args:
        model: the network; its scans run as XLA code, which supports symbolic shapes.
        params: "unet_0/…/kernel" → float32 array.
        rgb_normalization: as in the model's card; the program applies it.

    Returns:
        The program, for CPU and CUDA.

    Raises:
        InputError: the network does not support symbolic sizes.
    """
    model = with_scans(model, "xla")

    def run(params: dict[str, Array], rgb: Float[Array, "B H W 3"]) -> Array:
        normalised = normalise_rgb(rgb, rgb_normalization)
        return model.apply({"params": unflatten_dict(params, sep="/")}, normalised)  # type: ignore[return-value]

    sizes = export.symbolic_shape("b, 8*h, 8*w")
    image = jax.ShapeDtypeStruct((*sizes, 3), jnp.float32)
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in params.items()}
    # The scans fix layouts with a custom call that XLA has on every platform, though jax.export does not list it.
    allowed = [export.DisabledSafetyCheck.custom_call("LayoutConstraint")]
    try:
        return export.export(jax.jit(run), platforms=PLATFORMS, disabled_checks=allowed)(shapes, image)
    except (TypeError, ValueError, NotImplementedError, jax.errors.InconclusiveDimensionOperation) as error:
        raise InputError(f"the network cannot be exported for images of any size: {one_line(error)}") from error
