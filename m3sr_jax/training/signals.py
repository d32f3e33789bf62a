"""Ctrl-C, SIGTERM and SIGHUP: they interrupt at once, except in training, which finishes its step, saves and stops."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

# The terminal was closed; Windows has no such signal.
_HANG_UP = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set()
_SIGNALS = {signal.SIGINT, signal.SIGTERM, *_HANG_UP}
# `make` and process groups may deliver one signal twice; only a later one is a second request.
_ECHO_SECONDS = 2.0


class StopError(Exception):
    """A signal asked to stop, at a point where work can be repeated later."""


class StopRequest:
    """Turns the signals into KeyboardInterrupt, or, within `deferred()`, the first of them into `requested`.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        self._last = float("-inf")
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            ignored = {number for number in _HANG_UP if signal.getsignal(number) == signal.SIG_IGN}  # by `nohup`
            self._earlier = {number: signal.signal(number, self._handle) for number in _SIGNALS - ignored}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block the first signal only sets `requested`; the second interrupts."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Raises StopError once a stop is requested."""
        if self.requested:
            raise StopError

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last < _ECHO_SECONDS:
            return
        self._last = now
        if self.requested or not self._deferred:
            raise KeyboardInterrupt
        self.requested = True
