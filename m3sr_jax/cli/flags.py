"""Parses `--config FILE --config.group.field=value` for `train.py`; every mistake gives one clear line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from absl import flags

from m3sr_jax.config import check_field_name
from m3sr_jax.config.fields import field_names
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
    for argument, following in pairwise([*argv[1:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name.startswith("config."):
            check_field_name(name.removeprefix("config."))
        if argument.startswith("-") and name == "config":
            _check_config_exists(value if equals else following)
    try:
        rest = flags.FLAGS(argv)
        # ml_collections reports an unusable file only when the configuration is read.
        hasattr(flags.FLAGS["config"].value, "to_dict")
    except InputError:
        raise
    except flags.UnrecognizedFlagError as error:
        raise InputError(f"{error}{_nearest_fields(error.flagname)}") from error
    except flags.Error as error:
        raise InputError(_last_line(error)) from error
    except Exception as error:  # a config file is the user's own code and may raise anything
        raise InputError(f"{type(error).__name__} in the config file: {_last_line(error)}") from error
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = -1  # hides what libraries log for their own developers
    if len(rest) > 1:
        raise InputError(f"arguments {' '.join(rest[1:])}: unknown; expected flags such as --config.seed=1")
    return rest


def _check_config_exists(given: str) -> None:
    """Raises InputError, with the path of a config of a similar name, unless the file of FILE:VARIANT exists."""
    path = given.partition(":")[0]
    if not Path(path).is_file():
        shipped = sorted(config.stem for config in Path("configs").glob("*.py"))
        near = difflib.get_close_matches(Path(path).stem, shipped, n=1) or ["demo"]
        raise InputError(f"{path or '--config'}: no such config; expected a path such as configs/{near[0]}.py")


def _nearest_fields(flag: str) -> str:
    """Returns a hint for a flag that is a field of the configuration, such as batch_size or data.batch_size."""
    wanted = flag.replace("-", "_")
    found = [f"--config.{name}" for name in field_names() if wanted in (name, name.rpartition(".")[2])]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _last_line(error: Exception) -> str:
    """Returns the line of a message that says what is wrong; a traceback may come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
