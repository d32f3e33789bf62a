"""What the commands' progress bars share."""

from __future__ import annotations

from typing import Any


def advance(bar: Any, task: Any, done: int, total: int) -> None:
    """Shows a task of a `rich.progress.Progress` as far as it is done, of as much as there turns out to be."""
    bar.update(task, completed=done, total=total)
