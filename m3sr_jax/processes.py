"""Several processes at one task: how they find each other, what each does, and how they hear of each other's errors.

Process 0 is the writer: it alone makes files, and what it finds on disk decides for all. A process that is alone takes
none of these ways: every function here then only calls what it is given.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from m3sr_jax.errors import InputError

T = TypeVar("T")

# How long a process that is done waits for the others before it ends.
_SECONDS_TO_END = 120
# Head start of the others where all fail: when process 0 is gone, JAX ends them before they can say why.
_SECONDS_LAST = 2.0


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool = False,
) -> None:
    """Makes this process one of several, if flags or a SLURM step of several tasks say so; call before JAX starts.

    Args:
        coordinator_address: HOST:PORT of process 0; the same for all.
        num_processes: how many there are.
        process_id: which one this is, from 0.
        distributed: leave all three to what JAX finds out, on SLURM, Kubernetes, Open MPI or a TPU pod.

    Raises:
        InputError: only some of the three are given, they contradict each other, or the others cannot be found.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        _check_given(*given)
    elif not (distributed or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1):
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours, see training/signals.py
    try:
        jax.distributed.initialize(*given, shutdown_timeout_seconds=_SECONDS_TO_END)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InputError(
            f"several processes: they did not find each other ({' '.join(str(error).split())[:200]}); give each one "
            "--coordinator_address=HOST:PORT, --num_processes and --process_id"
        ) from error


def _check_given(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator_address is None or num_processes is None or process_id is None:
        raise InputError("--coordinator_address, --num_processes, --process_id: found some, expected all three or none")
    if not 0 <= process_id < num_processes:
        raise InputError(f"--process_id: found {process_id}, expected 0 to {num_processes - 1} (--num_processes - 1)")
    if not coordinator_address.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator_address: found {coordinator_address}, expected HOST:PORT")


def leave_if_joined(code: int) -> None:
    """Ends, at once, a process that failed while others may go on; does nothing in a process that is alone.

    An orderly end would wait for the others, which wait for this one; so they lose the connection, and end too.
    """
    if not is_joined():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if is_writer():
        time.sleep(_SECONDS_LAST)
    os._exit(code)


def is_joined() -> bool:
    """Whether `join` made this process one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def is_writer() -> bool:
    """Whether this process makes the files and talks to the user."""
    import jax

    return jax.process_index() == 0


def own_share(count: int) -> range:
    """Returns which of `count` things this process does: every n-th."""
    import jax

    return range(jax.process_index(), count, jax.process_count())


def together(work: Callable[[], T]) -> list[T]:
    """Every process does its work and gets the results of all, in their order; all have to call this.

    Args:
        work: returns what can be pickled. What it raises is raised in every process, so that none waits for another.
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
    """Process 0 does the work; all get its result, or the error it raised. All have to call this."""
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


def writer_first(work: Callable[[], T]) -> T:
    """Every process does the work, process 0 before the others, which find what it put into caches on disk."""
    done: list[T] = []

    def turn(writers: bool) -> None:
        if is_writer() == writers:
            done.append(work())

    together(lambda: turn(True))
    together(lambda: turn(False))
    return done[0]


def _attempt(work: Callable[[], object]) -> tuple[np.ndarray, Exception | None]:
    """Returns the pickled result and error, as bytes, and the error itself, which keeps its traceback."""
    value, raised = None, None
    try:
        value = work()
    except Exception as error:
        raised = error
    return np.frombuffer(pickle.dumps((value, raised)), np.uint8), raised


def _padded(size: int) -> int:
    """The next power of two: few sizes, so that few programs are compiled to send them."""
    return 1 << max(10, (int(size) - 1).bit_length())
