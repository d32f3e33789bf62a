"""What a run prints: plain lines without a terminal, and not one for every step."""

import math

from m3sr_jax.training import progress
from m3sr_jax.training.progress import TrainingProgress


def test_plain_lines_hold_loss_rate_speed_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with TrainingProgress(100, 0) as shown:
        shown.update(6, 0.0123, 4e-4, None, 4)
        shown.update(7, 0.0123, 4e-4, 12.5, 500)
        shown.describe("evaluating")
    assert capsys.readouterr().out.splitlines() == [
        "compiling the first step takes up to a minute",
        "step 6/100  loss 0.01230  rate 4.0e-04",
        "step 7/100  loss 0.01230  rate 4.0e-04  12.5 images/s  1:02:00 left",
    ]


def test_quick_steps_share_a_line_but_the_last_is_always_told(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", math.inf)
    with TrainingProgress(50, 0) as shown:
        for step in range(1, 51):
            shown.update(step, 1.0, 1e-4, 10.0, 4)
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/50", "50/50"]


def test_a_finished_run_compiles_nothing(capsys):
    with TrainingProgress(50, 50):
        pass
    assert capsys.readouterr().out == ""


def test_on_a_terminal_a_bar_shows_the_same(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingProgress(100, 0) as shown:
        shown.say("model [m3sr]")
        shown.update(50, 0.5, 4e-4, 12.5, 4)
    out = capsys.readouterr().out
    assert "model [m3sr]" in out
    assert "50/100" in out
    assert "12.5 images/s" in out
