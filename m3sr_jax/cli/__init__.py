"""The command `m3sr`: one module per subcommand, imported on use, so that help stays fast.

Exit codes: 0 done; 1 one of several processes was lost, or the reader of the output left; 2 bad usage or input, with
one line on stderr; 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import takewhile

from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.errors import InputError, one_line
from m3sr_jax.processes import is_joined, leave_if_joined
from m3sr_jax.training.signals import StopRequest

# Subcommand NAME is the frozen dataclass Name of m3sr_jax/cli/NAME.py: tyro reads its fields, `run()` does the work.
SUBCOMMANDS = {
    "check": "list missing and damaged files of a data set",
    "compare": "show evaluations side by side, with a paired test",
    "convert": "convert a release checkpoint to a model folder, or back",
    "evaluate": "score a checkpoint on a data set, beside least-squares fits",
    "export": "write a model as a program that runs with JAX alone",
    "inspect": "show a model's parameters and its cost",
    "predict": "reconstruct cubes from photos",
    "prepare": "convert a data set to a store for fast training",
    "score": "score the cubes of any tool against true cubes",
    "view": "make a web page of a cube: bands, spectra, errors",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `m3sr` and returns its exit code.

    Args:
        argv: arguments after the program's name; by default this process's.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with StopRequest():  # SIGTERM and SIGHUP act like Ctrl-C: unfinished files are deleted
        return exit_code(lambda: _run(arguments))


def exit_code(work: Callable[[], int | None]) -> int:
    """Runs `work` and returns its exit code; bad input gives one line on stderr and 2, an interruption 130.

    Characters that the output cannot encode are escaped. If its reader leaves, as `head` does, the code is 1.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: a file that is written would take its number
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _outcome(work)
    finally:
        lost = _flush_output()
    return code or lost


def _outcome(work: Callable[[], int | None]) -> int:
    try:
        return work() or 0
    except BrokenPipeError:  # the reader of the output has left
        code = _flush_output() or 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except OSError as error:
        reason = error.strerror or one_line(error)
        file = "" if error.filename is None else f"{error.filename}: "
        print(f"error: {InputError(file + reason)}", file=sys.stderr)
        code = 2
    except MemoryError as error:
        advice = "close other programs or use a smaller file"
        print(f"error: not enough memory ({one_line(error)}); {advice}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        if not is_joined():
            raise
        traceback.print_exc()
        print(f"error: {type(error).__name__}; if another process failed, its message says why", file=sys.stderr)
        code = 1
    leave_if_joined(code)
    return code


def _flush_output() -> int:
    """Writes what is still buffered and returns an exit code; Python would print a traceback if that failed at exit."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again at exit
        if isinstance(error, BrokenPipeError):
            return 1
        print(f"error: standard output: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _run(arguments: list[str]) -> int | None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print("m3sr", version("m3sr-jax"))
        return 0
    plan_for_memory()
    return _run_subcommand(arguments[0], arguments[1:])


def _run_subcommand(name: str, arguments: list[str]) -> int | None:
    if name not in SUBCOMMANDS:
        near = difflib.get_close_matches(name, SUBCOMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(SUBCOMMANDS)
        raise InputError(f"m3sr {name}: no such subcommand; {hint}")
    if "" in takewhile(lambda argument: not argument.startswith("-"), arguments):  # would be the current folder
        raise InputError(f"m3sr {name}: found an empty argument; expected a file or folder: is a shell variable unset?")
    import tyro

    command = getattr(importlib.import_module(f"m3sr_jax.cli.{name}"), name.capitalize())
    return tyro.cli(command, args=arguments, prog=f"m3sr {name}").run()


def _usage() -> str:
    width = max(map(len, SUBCOMMANDS))
    rows = [f"  {name:<{width}}  {description}" for name, description in SUBCOMMANDS.items()]
    return "\n".join(["usage: m3sr SUBCOMMAND [options]; for details, m3sr SUBCOMMAND --help", "", *rows])
