"""A run's folder: made, kept for its own configuration, refused in one line."""

import dataclasses
import os

import pytest

from m3sr_jax.config import Config, OptimConfig, TrainConfig
from m3sr_jax.errors import InputError
from m3sr_jax.training.workdir import check_same_run, owned_workdir, write_config


def test_it_is_made_and_remembers_the_configuration(tmp_path):
    with owned_workdir(tmp_path / "runs" / "one"):
        check_same_run(tmp_path / "runs" / "one", Config(seed=2))
        write_config(tmp_path / "runs" / "one", Config(seed=2))
    assert Config.from_json((tmp_path / "runs" / "one" / "config.json").read_text()) == Config(seed=2)


def test_fields_that_only_report_may_change(tmp_path):
    write_config(tmp_path, Config())
    again = Config(train=TrainConfig(log_every_steps=1))
    check_same_run(tmp_path, again)
    write_config(tmp_path, again)
    assert Config.from_json((tmp_path / "config.json").read_text()) == again


def test_another_run_is_refused_and_left_as_it_is(tmp_path):
    write_config(tmp_path, Config())
    other = dataclasses.replace(Config(), optim=OptimConfig(learning_rate=1e-3), seed=1)
    with pytest.raises(InputError, match=r"seed: 0 → 1; optim\.learning_rate: 0\.0004 → 0\.001") as caught:
        check_same_run(tmp_path, other)
    assert "\n" not in str(caught.value)
    assert "init_from" not in str(caught.value)
    assert Config.from_json((tmp_path / "config.json").read_text()) == Config()


def test_a_longer_run_is_told_how_to_go_on(tmp_path):
    write_config(tmp_path, Config(train=TrainConfig(num_steps=5)))
    told = f"to go on from it: --workdir NEW --config.train.init_from={tmp_path}$"
    with pytest.raises(InputError, match=told):
        check_same_run(tmp_path, Config(train=TrainConfig(num_steps=9)))


@pytest.mark.parametrize("text", ["", "{]", '{"modle": {}}'])
def test_an_unreadable_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: .*new --workdir"):
        check_same_run(tmp_path, Config())


def test_a_place_that_cannot_be_written_costs_one_line(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="not usable"), owned_workdir(place):
            pass


def test_one_training_at_a_time(tmp_path):
    told = rf"in use by another training \(process {os.getpid()} on"
    with owned_workdir(tmp_path), pytest.raises(InputError, match=told), owned_workdir(tmp_path):
        pass
    with owned_workdir(tmp_path):  # free again
        pass
