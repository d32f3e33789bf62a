"""Progress bars of the commands."""

from __future__ import annotations

from typing import Any


def advance(bar: Any, task: Any, done: int, total: int) -> None:
    """Updates a task of a `rich.progress.Progress`, whose total may be known only by now."""
    bar.update(task, completed=done, total=total)
