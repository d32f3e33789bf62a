"""Trained models on disk: an Orbax checkpoint beside `model.json`, which describes the model.

`save_model` (and `m3sr convert`) writes DIR/model.json, DIR/params/ and DIR/params.crc32. A training workdir has
DIR/model.json and DIR/checkpoints/{latest,best}/STEP/params/, with the checksum in STEP/run/. The shipped model has
DIR/params.safetensors instead, one small file whose names are the paths of the parameter tree, and which may hold the
coefficients of the model's intervals as well.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from m3sr_jax.errors import InputError, one_line
from m3sr_jax.io.files import reading, written_folder
from m3sr_jax.model_card import MODEL_FILE, ModelCard, read_card, write_card
from m3sr_jax.uncertainty import ARRAYS, Interval

if TYPE_CHECKING:
    import flax.linen as nn

CHECKPOINTS = "checkpoints"
CHECKSUM_FILE = "params.crc32"
WEIGHTS_FILE = "params.safetensors"
LARGE = 1000  # numbers; a regression has fewer and stays exact
PARAMS_CHECKSUM = "params_crc32"  # key in a run's checkpoint
Which = Literal["best", "latest"]


def save_model(directory: str | os.PathLike[str], card: ModelCard, params: Any, *, overwrite: bool = False) -> None:
    """Writes parameters and card; the directory appears whole or not at all.

    Args:
        directory: a new or empty directory; missing parents are created.
        card: becomes model.json.
        params: pytree of arrays, as `model.init(...)["params"]`.
        overwrite: replace an earlier model (a directory with a model.json), but never the folder of a training run.

    Raises:
        InputError: the directory cannot be written, is not empty and `overwrite` is not set, or holds more than a
            model.
    """
    target = Path(directory).absolute()
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: found a file, expected a directory; choose another name")
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise InputError(f"{target}: not empty; choose another directory or pass --overwrite")
        if not (target / MODEL_FILE).is_file():
            raise InputError(f"{target}: not empty and no model (no {MODEL_FILE}); choose another directory")
        if others := {path.name for path in target.iterdir()} - {MODEL_FILE, "params", CHECKSUM_FILE, WEIGHTS_FILE}:
            named = ", ".join(sorted(others)[:4])
            raise InputError(
                f"{target}: would be replaced, but holds more than a model ({named}); choose another directory"
            )
    with written_folder(target) as folder:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder / "params", host_copy(params))
        (folder / CHECKSUM_FILE).write_text(f"{params_checksum(params)}\n")
        write_card(card, folder)


def load_model(directory: str | os.PathLike[str], which: Which = "best") -> tuple[nn.Module, Any, ModelCard]:
    """Reads a training workdir or what `m3sr convert` wrote.

    Args:
        directory: folder of model.json.
        which: of a workdir, the checkpoint with the best PSNR so far (the latest before the first evaluation), or the
            latest.

    Returns:
        The Linen module, its parameters (numpy arrays) and the card.

    Raises:
        InputError: there is no such directory, no model.json or no checkpoint, `which` is neither, or the parameters
            are not the model's.
    """
    from m3sr_jax.models import build_model

    card = read_card(Path(directory))
    model = build_model(card.model)
    return model, load_params(directory, model, which), card


def load_params(directory: str | os.PathLike[str], model: nn.Module, which: Which = "best") -> Any:
    """Reads the parameters alone, for a model that exists already; see `load_model`.

    Raises:
        InputError: as `load_model`; lists the parameters that do not fit, and notices changed numbers.
    """
    from m3sr_jax.models import parameter_shapes

    if which not in ("best", "latest"):
        raise InputError(f'which: found "{which}", expected "best" or "latest"')
    root = Path(directory).absolute()
    read_card(root)
    expected = parameter_shapes(model)
    if (root / WEIGHTS_FILE).is_file():
        return _read_weights(root / WEIGHTS_FILE, expected)
    path = _params_directory(root, which)
    try:
        return _read_params(path, expected)
    except InputError:
        if path == _params_directory(root, which):
            raise
        return load_params(directory, model, which)  # a run has replaced this checkpoint meanwhile


def _read_params(path: Path, expected: Any) -> Any:
    """Reads a tree of parameters from an Orbax checkpoint in the types of the model; what is float32 stays float32."""
    import jax

    from m3sr_jax.models import check_shapes, shapes_of
    from m3sr_jax.models.layers import statistics_dtype

    def wanted_type(ours: Any, saved: Any) -> jax.ShapeDtypeStruct:
        # A running mean has more digits than parameters in bfloat16.
        dtype = statistics_dtype(ours.dtype) if saved.dtype == "float32" else ours.dtype
        return jax.ShapeDtypeStruct(ours.shape, dtype)

    with _checkpointer() as checkpointer:
        try:
            found = checkpointer.metadata(path).item_metadata.tree
            check_shapes(f"{path}: the parameters", shapes_of(found), shapes_of(expected))
            wanted = _saved_checksum(path)
            params = checkpointer.restore(path, jax.tree.map(wanted_type, expected, found))
        except InputError:
            raise
        except Exception as error:  # Orbax documents no closed set
            raise InputError(f"{path}: not a readable Orbax checkpoint ({one_line(error)})") from error
    if wanted not in (None, params_checksum(params)):
        raise InputError(
            f"{path}: its checksum does not match its numbers; convert the model again, or, for a training run, pass "
            "--which latest or delete this checkpoint"
        )
    return params


def load_interval(directory: str | os.PathLike[str], card: ModelCard) -> Interval | None:
    """Reads the model's intervals; None if its card states none.

    Raises:
        InputError: the card states intervals, but the file of weights has none that fit.
    """
    if card.uncertainty is None:
        return None
    path = Path(directory) / WEIGHTS_FILE
    arrays = _read_arrays(path, lambda name: name in ARRAYS)
    try:
        return Interval.from_arrays(card.uncertainty["coverage"], arrays, len(card.wavelengths))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def saved_steps(directory: Path) -> list[int]:
    """Returns the steps of complete checkpoints, ascending; unfinished ones have other names."""
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if entry.name.isdigit())


def host_copy(tree: Any) -> Any:
    """Returns the arrays as numpy copies, which stay valid when later steps reuse the device's memory."""
    import jax
    import numpy as np

    return jax.tree.map(np.array, jax.device_get(tree))


def checksum(tree: Any) -> int:
    """Returns the CRC-32 of the bytes of all leaves, in the tree's order."""
    import jax
    import numpy as np

    code = 0
    for leaf in jax.tree.leaves(tree):
        code = zlib.crc32(np.asarray(leaf).tobytes(), code)
    return code


def params_checksum(params: Any) -> int:
    """Returns the CRC-32 of parameters as `load_params` returns them, in float32."""
    import jax
    import numpy as np

    return checksum(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params))


def _saved_checksum(params: Path) -> int | None:
    """Returns the checksum stored beside the parameters; None for files of a version that stored none."""
    alone, run = params.parent / CHECKSUM_FILE, params.parent / "run" / "metadata"
    if alone.is_file():
        return int(alone.read_text())
    return json.loads(run.read_text()).get(PARAMS_CHECKSUM) if run.is_file() else None


def _params_directory(root: Path, which: Which) -> Path:
    if (root / "params").is_dir():
        return root / "params"
    for kind in ("best", "latest") if which == "best" else ("latest",):
        steps = saved_steps(root / CHECKPOINTS / kind)
        if steps:
            step = root / CHECKPOINTS / kind / str(steps[-1])
            return step / ("ema" if (step / "ema").is_dir() else "params")  # what the run itself evaluates
    raise InputError(f"{root}: no checkpoint yet; wait until the training run has saved its first one")


def write_weights(folder: Path, card: ModelCard, params: Any, interval: Interval | None, *, half: bool = False) -> None:
    """Writes a model in the form of the shipped one; the caller makes the folder appear whole.

    With `half`, large arrays of parameters are rounded to float16, which halves the file.
    """
    import numpy as np
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(params, sep="/").items()}
    if half:
        large = {name: array for name, array in arrays.items() if array.size >= LARGE}
        arrays |= {name: array.astype(np.float16) for name, array in large.items()}
    # Not `save_file`, whose files only their owner can read.
    (folder / WEIGHTS_FILE).write_bytes(save(arrays | (interval.arrays() if interval else {})))
    write_card(card, folder)


def _read_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Reads the arrays with the names that are wanted."""
    from safetensors import safe_open

    with reading(path, "a safetensors file of parameters"):
        try:
            with safe_open(path, "numpy") as file:
                return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
        except Exception as error:  # safetensors raises a class of its own
            raise InputError(f"{path}: not a readable safetensors file ({one_line(error)})") from error


def _read_weights(path: Path, expected: Any) -> Any:
    """Reads a tree of parameters from a safetensors file, as float32."""
    import numpy as np
    from flax.traverse_util import unflatten_dict

    from m3sr_jax.models import check_shapes, shapes_of

    arrays = _read_arrays(path, lambda name: name not in ARRAYS)
    found = {name: array.shape for name, array in arrays.items()}
    check_shapes(f"{path}: the parameters", found, shapes_of(expected))
    return unflatten_dict({name: array.astype(np.float32) for name, array in arrays.items()}, sep="/")


def _checkpointer() -> Any:
    """Returns an Orbax checkpointer for this process alone, which does not wait for other processes."""
    import jax

    ocp = quiet_orbax()
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(this, {this}, f"process_{this}")
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def quiet_orbax() -> Any:
    """Imports Orbax (slowly) without its logs, which repeat its errors and name every missing optional file."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    import orbax.checkpoint as ocp

    _hide_abandoned_transfers()
    return ocp


@cache
def _hide_abandoned_transfers() -> None:
    """Hides what TensorStore says of reads and writes that an error left behind, at whatever time they end."""
    hook = sys.unraisablehook

    def on_callback(failure: Any) -> None:
        if str(failure.exc_value) != "Event loop is closed":
            hook(failure)

    sys.unraisablehook = on_callback
