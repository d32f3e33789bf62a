"""Signals: deferred while it matters, at once where it does not, and never counted twice."""

import contextlib
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from m3sr_jax.training import signals
from m3sr_jax.training.signals import StopError, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_deferred_the_first_signal_only_asks(number):
    with StopRequest() as stop, stop.deferred():
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(StopError):
            stop.check()


@pytest.fixture
def clock(monkeypatch):
    """The time that `StopRequest` reads, which only a test moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_an_echo_of_the_signal_is_no_second_request_but_a_later_one_is(clock):
    with StopRequest() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        clock.now += 2.5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_pressing_ctrl_c_again_and_again_interrupts_as_soon_as_it_is_no_echo(clock):
    def press_twice_a_second():
        for _ in range(10):
            os.kill(os.getpid(), signal.SIGINT)
            clock.now += 0.5

    with StopRequest() as stop, stop.deferred(), pytest.raises(KeyboardInterrupt):
        press_twice_a_second()
    assert clock.now == 1002.0


def test_not_deferred_it_interrupts_and_the_earlier_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        with stop.deferred():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_interrupts_unless_the_signal_is_ignored(handler):
    earlier = signal.signal(signal.SIGHUP, handler)
    try:
        with StopRequest():
            ignored = handler == signal.SIG_IGN  # as by nohup
            with contextlib.nullcontext() if ignored else pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_in_another_thread_nothing_is_installed():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
