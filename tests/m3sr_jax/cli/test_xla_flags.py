import os
import subprocess
import sys

import pytest

from m3sr_jax.cli.xla_flags import plan_for_memory

NAME = "--xla_cpu_enable_concurrency_optimized_scheduler"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"{NAME}=false"),
        ("--xla_dump_to=/tmp/x", f"--xla_dump_to=/tmp/x {NAME}=false"),
        (f"{NAME}=true", f"{NAME}=true"),
    ],
)
def test_other_flags_and_the_users_choice_stay(monkeypatch, before, after):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("XLA_FLAGS", before)
    plan_for_memory()
    assert os.environ["XLA_FLAGS"] == after


def test_xla_knows_the_flag():
    """XLA ends the process at a flag that it does not know."""
    code = "from m3sr_jax.cli.xla_flags import plan_for_memory as f; f(); import jax; print(jax.numpy.ones(3).sum())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "3.0\n", done.stderr
