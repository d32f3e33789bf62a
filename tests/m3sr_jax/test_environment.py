"""Versions, device, revision."""

import subprocess
from pathlib import Path

import jax

from m3sr_jax.environment import environment, git_revision


def test_environment_names_what_ran():
    facts = environment()
    assert facts["versions"]["jax"] == jax.__version__
    packages = {"python", "m3sr-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"}
    assert set(facts["versions"]) == packages
    assert all(facts["versions"][name] for name in packages - {"m3sr-jax"})
    assert facts["git_revision"] == git_revision(Path(__file__).parents[2])
    assert facts["device"] == {"platform": "cpu", "kind": jax.devices()[0].device_kind, "count": jax.device_count()}


def test_revision_is_that_of_the_folder_itself(tmp_path):
    assert git_revision(tmp_path) is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    git("tag", "v1")
    head = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == f"{head}-dirty"
    (tmp_path / "inside").mkdir()
    assert git_revision(tmp_path / "inside") is None
