"""What is installed: no file of the package is left out, and importing it costs and loads little."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

import m3sr_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {"colour", "bokeh", "matplotlib", "torch", "playwright", "scipy", "jax", "flax", "orbax", "grain"}


def test_every_file_that_is_no_code_is_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for folder in (ROOT / "m3sr_jax", ROOT / "kernels" / "m3sr_kernels"):
        listed = {path for pattern in patterns[folder.name] for path in folder.glob(pattern)}
        found = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert found == listed


def test_the_import_name_kernels_stays_free():
    """It belongs to a package of Hugging Face, which a file here would shadow."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == ["m3sr_jax*", "m3sr_kernels*"]


def test_importing_loads_nothing_heavy():
    program = "import json, sys, m3sr_jax, m3sr_jax.cli, m3sr_jax.io; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert HEAVY & set(json.loads(done.stdout)) == set()


def test_the_package_tells_its_version():
    assert m3sr_jax.__version__ == version("m3sr-jax")
    assert "__version__" in dir(m3sr_jax)


def test_every_dependency_states_its_oldest_version():
    """`make oldest` installs just these."""
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras["torch"], *extras["tensorboard"]]:
        requirement = Requirement(text)
        assert [part.operator for part in requirement.specifier] == [">="], text
