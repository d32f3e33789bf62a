"""The folder of a run: creating it, locking it, and checking that a configuration may resume in it."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m3sr_jax.config import Config, load_config
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import write_text

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def check_same_run(workdir: Path, config: Config) -> None:
    """Checks that the folder holds no run with another configuration.

    Raises:
        InputError: its config.json is unreadable, or differs in fields that matter, which are listed.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        return
    try:
        conflicts = config.conflicts(load_config(path))
    except InputError as error:
        raise InputError(f"{error}; choose a new --workdir") from error
    if conflicts:
        longer = all(conflict.startswith(("train.num_steps:", "train.num_epochs:")) for conflict in conflicts)
        raise InputError(
            f"{path}: belongs to a run with another configuration ({'; '.join(conflicts)}); restore these fields or "
            "choose a new --workdir" + f"; to go on from it: --workdir NEW --config.train.init_from={workdir}" * longer
        )


def write_config(workdir: Path, config: Config) -> None:
    """Writes config.json, from when on the folder belongs to runs of this configuration.

    Raises:
        InputError: the folder cannot be written.
    """
    with _writable(workdir):
        write_text(workdir / CONFIG_FILE, config.to_json())


@contextmanager
def _writable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--workdir {workdir}: not usable ({error.strerror}); choose a folder that you can write to"
        ) from error


@contextmanager
def owned_workdir(workdir: Path) -> Iterator[None]:
    """Creates the folder and locks it until the block ends or the process does, even if it is killed.

    Raises:
        InputError: the folder cannot be created or written, or another process trains in it.
    """
    with _writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / LOCK_FILE).touch()
    if sys.platform == "win32":  # no flock
        yield
        return
    import fcntl

    with (workdir / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            process = file.read().strip() or "unknown"
            raise InputError(
                f"{workdir}: in use by another training (process {process}); wait for it or choose a new --workdir"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


@contextmanager
def disk_errors_as_input_errors(workdir: Path) -> Iterator[None]:
    """Turns a full or failing disk into an InputError that says how to resume."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        path = error.filename or workdir
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free some space and run the same command to resume"
        ) from error
