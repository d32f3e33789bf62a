"""Fixtures of the model tests."""

from functools import partial

import jax
import pytest
from quick_compilation import QUICK


@pytest.fixture(scope="session")
def quick_jit():
    """`jax.jit` without XLA's optimisations, which cost more time than a test's single run can save."""
    return partial(jax.jit, compiler_options=QUICK)
