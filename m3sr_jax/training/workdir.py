"""The folder of a run: what belongs to it, and whether this configuration may go on in it."""

from __future__ import annotations

from pathlib import Path

from m3sr_jax.checkpoint import write_text
from m3sr_jax.config import Config, load_config
from m3sr_jax.errors import InputError

CONFIG_FILE = "config.json"


def prepare_workdir(workdir: Path, config: Config) -> None:
    """Makes the folder and writes config.json, unless another configuration's run lies there.

    Raises:
        InputError: the folder cannot be written, or its config.json differs in fields that matter; these are listed.
    """
    path = workdir / CONFIG_FILE
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same_run(path, config)
        write_text(path, config.to_json())
    except OSError as error:
        raise InputError(f"--workdir {workdir}: not usable ({error.strerror}); give a folder you can write") from error


def _check_same_run(path: Path, config: Config) -> None:
    try:
        conflicts = "; ".join(config.conflicts(load_config(path)))
    except InputError as error:
        raise InputError(f"{error}; give a new --workdir") from error
    if conflicts:
        raise InputError(
            f"{path}: holds another configuration's run ({conflicts}); set them back or give a new --workdir"
        )
