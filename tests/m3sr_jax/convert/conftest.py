"""Fixtures of the converter tests."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from m3sr_jax.convert import params_from_release
from m3sr_jax.models import M3SR


@pytest.fixture(scope="session")
def release_shapes():
    """Key → shape of the release's default network, in its order."""
    cases = json.loads(gzip.decompress((Path(__file__).parents[2] / "parity" / "cases.json.gz").read_bytes()))
    return {key: tuple(shape) for key, shape in cases["default"]["params"].items()}


@pytest.fixture(scope="session")
def state_dict(release_shapes):
    """Random weights in the release's layout, all of them different."""
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in release_shapes.items()}


@pytest.fixture(scope="session")
def model():
    return M3SR()


@pytest.fixture(scope="session")
def params(state_dict, model):
    return params_from_release(state_dict, model)
