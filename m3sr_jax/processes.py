"""Several processes at one task: joining them, dividing the work, and raising one process's error in all of them.

Process 0 is the writer: it alone writes files, and what it finds on disk holds for all. In a single process every
function here just calls what it is given.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar, cast

import numpy as np

from m3sr_jax.errors import InputError, one_line

T = TypeVar("T")

# How long a finished process waits for the others before it exits.
_SHUTDOWN_TIMEOUT_SECONDS = 120
# Process 0 exits this much later: once it is gone, JAX ends the others before they can say why they failed.
_WRITER_EXIT_DELAY_SECONDS = 2.0


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool = False,
) -> None:
    """Joins this process to the others, if flags or a SLURM step with several tasks say so; call before JAX starts.

    Args:
        coordinator_address: HOST:PORT of process 0, the same in every process.
        num_processes: number of processes.
        process_id: number of this process, from 0.
        distributed: let JAX detect all three, on SLURM, Kubernetes, Open MPI or a TPU pod.

    Raises:
        InputError: only some of the three are given, they contradict each other, or the processes cannot connect.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        _check_given(*given)
    elif not (distributed or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1):
        start_jax()
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours, see training/signals.py
    try:
        jax.distributed.initialize(*given, shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT_SECONDS)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InputError(
            f"the processes could not connect ({one_line(error, 200)}); give each one "
            "--coordinator_address=HOST:PORT, --num_processes and --process_id"
        ) from error
    start_jax()


def start_jax() -> None:
    """Starts JAX's devices; every command that computes calls this, or `join`, before it reads files.

    Raises:
        InputError: the platform of JAX_PLATFORMS is not there, or an installed accelerator plugin does not start, after
            which JAX would run on the CPU; not if JAX_PLATFORMS asks for the CPU.
    """
    import jax

    platforms = os.environ.get("JAX_PLATFORMS", "")
    faults = _PluginFaults()
    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(faults)
    try:
        jax.devices()
    except Exception as error:  # jax asserts that there is a device; a plugin may raise anything
        reason = f" ({one_line(error)})" if str(error) else ""
        raise InputError(
            f"JAX_PLATFORMS={platforms}: JAX finds no such device{reason}; install its plugin, such as pip install "
            "'m3sr-jax[cuda12]', or run on the CPU with JAX_PLATFORMS=cpu"
        ) from error
    finally:
        logger.removeFilter(faults)
    faults.found += _mismatched_plugins()
    if faults.found and platforms != "cpu":
        raise InputError(
            f"an accelerator plugin of JAX does not start ({faults.found[0]}); install versions that fit each other, "
            "such as pip install --upgrade 'm3sr-jax[cuda12]', or run on the CPU with JAX_PLATFORMS=cpu"
        )


def _mismatched_plugins() -> list[str]:
    """Describes CUDA plugins that jaxlib ignores, with a mere warning, because their version is not its own."""
    expected = version("jaxlib")
    faults = []
    for plugin in ("jax-cuda12-plugin", "jax-cuda13-plugin"):
        with suppress(PackageNotFoundError):
            found = version(plugin)
            if found.partition("+")[0] != expected.partition("+")[0]:
                faults.append(f"{plugin} {found} is installed beside jaxlib {expected}")
    return faults


class _PluginFaults(logging.Filter):
    """Takes what JAX logs about plugins that do not start, with their errors in `found`, instead of tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is None:
            return True
        self.found.append(one_line(error))
        return False


def _check_given(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator_address is None or num_processes is None or process_id is None:
        raise InputError("--coordinator_address, --num_processes, --process_id: found some, expected all three or none")
    if not 0 <= process_id < num_processes:
        raise InputError(f"--process_id: found {process_id}, expected 0 to {num_processes - 1} (--num_processes - 1)")
    if not coordinator_address.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator_address: found {coordinator_address}, expected HOST:PORT")


def leave_if_joined(code: int) -> None:
    """Exits at once if this process is one of several; does nothing in a single process.

    An orderly exit would wait for the others, which wait for this one. Instead they lose the connection and exit too.
    """
    if not is_joined():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if is_writer():
        time.sleep(_WRITER_EXIT_DELAY_SECONDS)
    os._exit(code)


def is_joined() -> bool:
    """Whether `join` made this process one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def is_writer() -> bool:
    """Whether this process writes the files and talks to the user."""
    import jax

    return jax.process_index() == 0


def local_indices(count: int) -> range:
    """Returns which of `count` items this process handles: every n-th of n processes."""
    import jax

    return range(jax.process_index(), count, jax.process_count())


def gather(work: Callable[[], T]) -> list[T]:
    """Runs `work` in every process and returns all results, in the processes' order. Every process must call this.

    Args:
        work: returns a value that can be pickled. An error in one process is raised in all, so that none waits.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return [work()]
    outcome, error = _attempt(work)
    sizes = multihost_utils.process_allgather(np.array(len(outcome), np.int32))
    rows = multihost_utils.process_allgather(np.resize(outcome, _padded(sizes.max())))
    outcomes = [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]
    for raised in [error, *(raised for _, raised in outcomes)]:
        if raised is not None:
            raise raised
    return [value for value, _ in outcomes]


def on_writer(work: Callable[[], T]) -> T:
    """Runs `work` in process 0 and returns its result, or raises its error, in all. Every process must call this."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return work()
    outcome, error = _attempt(work) if is_writer() else (np.zeros(1, np.uint8), None)
    size = int(multihost_utils.broadcast_one_to_all(np.array(len(outcome), np.int32)))
    row = multihost_utils.broadcast_one_to_all(np.resize(outcome, _padded(size)))
    value, raised = pickle.loads(row[:size].tobytes())
    if error or raised:
        raise error or raised
    return value


class _StandIn:
    """Takes the place of an object that only process 0 has: every method does nothing and returns None."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def writer_only(make: Callable[[], T]) -> T:
    """Returns what `make` returns in process 0, and in the others a stand-in whose methods do nothing.

    Every process must call this; an error of `make` is raised in all. Read values from the object in `on_writer`.
    """
    made: list[T] = []
    on_writer(lambda: made.append(make()))
    return made[0] if made else cast(Any, _StandIn())


def writer_first(work: Callable[[], T]) -> T:
    """Runs `work` in process 0, then in the others, which find on disk what it cached. Every process must call this."""
    done: list[T] = []

    def turn(writers: bool) -> None:
        if is_writer() == writers:
            done.append(work())

    gather(lambda: turn(True))
    gather(lambda: turn(False))
    return done[0]


def _attempt(work: Callable[[], object]) -> tuple[np.ndarray, Exception | None]:
    """Returns the pickled result and error, and the error itself, which still has its traceback."""
    value, raised = None, None
    try:
        value = work()
    except Exception as error:
        raised = error
    return np.frombuffer(pickle.dumps((value, raised)), np.uint8), raised


def _padded(size: int) -> int:
    """Rounds up to a power of two: few sizes, so that few programs are compiled to send them."""
    return 1 << max(10, (int(size) - 1).bit_length())
