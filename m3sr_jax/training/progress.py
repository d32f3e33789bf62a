"""What a training run shows on screen: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

# Keeps logs of fast steps readable: at most one plain line in this time.
_SECONDS_BETWEEN_LINES = 2.0


class TrainingProgress:
    """Shows steps with loss, learning rate, images per second and time left, on standard output."""

    def __init__(self, num_steps: int, first_step: int, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._num_steps = num_steps
        self._first_step = first_step
        self._last_line = float("-inf")
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> TrainingProgress:
        if self._first_step < self._num_steps:
            self.say("compiling the first step takes up to a minute")
        if self.console.is_terminal:
            columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self.console)
            self._task = self._bar.add_task("compiling", total=self._num_steps, completed=self._first_step)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self.console.print(text, markup=False)

    def update(self, step: int, loss: float, rate: float, images_per_second: float | None, batch_size: int) -> None:
        """Shows one step's numbers, without speed if `images_per_second` is None."""
        numbers = f"loss {loss:.5f}  rate {rate:.1e}"
        if images_per_second:
            left = (self._num_steps - step) * batch_size / images_per_second
            numbers += f"  {images_per_second:.1f} images/s  {_clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=numbers)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or step == self._num_steps:
            self._last_line = time.monotonic()
            self.say(f"step {step}/{self._num_steps}  {numbers}")

    def describe(self, activity: str) -> None:
        """Shows on the bar what is happening instead of training."""
        if self._bar is not None:
            self._bar.update(self._task, description=activity)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
