"""Progress bars of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


def advance(bar: Any, task: Any, done: int, total: int) -> None:
    """Updates a task of a `rich.progress.Progress`, whose total may be known only by now."""
    bar.update(task, completed=done, total=total)


@contextmanager
def progress_bar(activity: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar until the block ends; yields a function of what is done and the total."""
    from rich.progress import Progress

    with Progress(transient=True, disable=not shown) as bar:
        yield partial(advance, bar, bar.add_task(activity, total=None))
