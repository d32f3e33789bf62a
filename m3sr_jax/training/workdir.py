"""The folder of a run: what belongs to it, and whether this configuration may go on in it."""

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


def prepare_workdir(workdir: Path, config: Config) -> None:
    """Writes config.json, unless another configuration's run lies there.

    Raises:
        InputError: the folder cannot be written, or its config.json differs in fields that matter; these are listed.
    """
    path = workdir / CONFIG_FILE
    with _writable(workdir):
        if path.exists():
            _check_same_run(path, config)
        write_text(path, config.to_json())


@contextmanager
def _writable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"--workdir {workdir}: not usable ({error.strerror}); give a folder you can write") from error


@contextmanager
def owned_workdir(workdir: Path) -> Iterator[None]:
    """Makes the folder and keeps other trainings out until the block is through or the process is gone, killed too.

    Raises:
        InputError: the folder cannot be made or written, or another process trains in it.
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
                f"{workdir}: another training runs in it (process {process}); wait for it or give a new --workdir"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


@contextmanager
def telling_of_disk(workdir: Path) -> Iterator[None]:
    """Turns a failure to write to the folder into an InputError that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        path = error.filename or workdir
        raise InputError(f"{path}: not writable ({error.strerror}); make room, and the same command goes on") from error


def _check_same_run(path: Path, config: Config) -> None:
    try:
        conflicts = "; ".join(config.conflicts(load_config(path)))
    except InputError as error:
        raise InputError(f"{error}; give a new --workdir") from error
    if conflicts:
        raise InputError(
            f"{path}: holds another configuration's run ({conflicts}); set them back or give a new --workdir"
        )
