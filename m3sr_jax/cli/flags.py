"""Parses `--config FILE --config.group.field=value` for `train.py`; every mistake gives one clear line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from m3sr_jax.config import check_field_name
from m3sr_jax.errors import InputError


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags for `app.run(main, flags_parser=parse_flags)`; a mistake gives one line and exit code 2.

    Args:
        argv: the program's name and its arguments.
    """
    try:
        return _parse(list(argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def default_workdir(config_file: str) -> str:
    """Returns the folder of a run without --workdir: runs/cave for cave.py, runs/cave-no_spatial for its variant."""
    name, _, variant = Path(config_file).name.partition(".py")
    variants = filter(None, variant.lstrip(":").split(","))
    return str(Path("runs", "-".join([name, *variants])))


def _parse(argv: list[str]) -> list[str]:
    for argument in argv[1:]:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name.startswith("config."):
            check_field_name(name.removeprefix("config."))
    try:
        rest = flags.FLAGS(argv)
        # ml_collections reports an unusable file only when the configuration is read.
        hasattr(flags.FLAGS["config"].value, "to_dict")
    except Exception as error:  # a config file is the user's own code and may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            f"{type(error).__name__}: {lines[-1] if lines else 'in the flags or the config file'}"
        ) from error
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = -1  # hides what libraries log for their own developers
    if len(rest) > 1:
        raise InputError(f"arguments {' '.join(rest[1:])}: unknown; expected flags such as --config.seed=1")
    return rest
