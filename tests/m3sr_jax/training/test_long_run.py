"""Over many steps nothing is compiled again and no file stays open."""

import dataclasses
import os
import sys
from collections import Counter

import jax.monitoring
import pytest

from m3sr_jax.training import loop
from m3sr_jax.training.loop import train_and_evaluate

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
def test_after_the_first_steps_nothing_is_compiled_and_open_files_stay_as_many(toy, tmp_path, monkeypatch):
    compiled, seen, save = Counter(), {}, loop._save
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.update([event]))

    def watch(run):
        save(run)
        run.checkpoints._latest.wait_until_finished()
        seen[run.step] = (compiled[COMPILED], len(os.listdir("/proc/self/fd")))

    monkeypatch.setattr(loop, "_save", watch)
    train = dataclasses.replace(toy.train, num_steps=200, eval_every_steps=40, checkpoint_every_steps=40)
    assert train_and_evaluate(dataclasses.replace(toy, train=train), tmp_path) == 0
    assert seen[40][0] > 0  # the event still has this name
    assert len({seen[step] for step in (80, 120, 160, 200)}) == 1, seen
