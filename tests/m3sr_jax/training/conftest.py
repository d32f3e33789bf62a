"""Toy runs, see toy_config.py."""

import dataclasses
from pathlib import Path

import pytest

from m3sr_jax.config import Config, load_config


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Config:
    """The toy's configuration; its scenes are made once."""
    config = load_config(Path(__file__).with_name("toy_config.py"))
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, root=str(tmp_path_factory.mktemp("scenes")))
    )


@pytest.fixture(scope="session")
def finished(toy, tmp_path_factory) -> Path:
    """The workdir of a finished run; tests only read it."""
    from m3sr_jax.training.loop import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "finished"
    assert train_and_evaluate(toy, workdir) == 0
    return workdir
